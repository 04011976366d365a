"""Commands with a stand-in for the toolkit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.helpers.toolkits.scripted import ScriptedToolkit


@pytest.fixture
def toolkit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedToolkit:
    """What commands convert with, and an empty cache."""
    import ort_rknn_converters.pipeline.convert  # noqa: F401  the package's attribute of that name is the function

    fake = ScriptedToolkit()
    monkeypatch.setattr(sys.modules["ort_rknn_converters.pipeline.convert"], "compile_segment", fake)
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path / "cache"))
    return fake
