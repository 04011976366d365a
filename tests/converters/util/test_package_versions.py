"""Versions of installed packages without importlib.metadata."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from ort_rknn_converters.util.package_versions import version_of


@pytest.mark.parametrize("package", ["onnx", "onnx-ir", "onnx_ir", "onnxruntime", "numpy"])
def test_as_importlib_says(package: str) -> None:
    assert version_of(package) == version(package)


def test_unknown() -> None:
    assert version_of("no-such-package-anywhere") == ""


def test_the_first_folder_of_the_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Onnx-9.9.9.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert version_of("onnx") == "9.9.9"
