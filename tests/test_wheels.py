"""Wheels are refused that hold something else than their names say."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
import wheels

NAME = "ort_rknn-0.1.0-py3-none-manylinux2014_x86_64.whl"
ELF = b"\x7fELF\x02\x01\x01" + bytes(11)


def wheel(folder: Path, machine: int, name: str = NAME, libraries: tuple[str, ...] = wheels.LIBRARIES) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for library in libraries:
            archive.writestr(library, ELF + machine.to_bytes(2, "little"))
    return path


def test_a_library_for_another_cpu(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"lanes\.so in .* is for aarch64"):
        wheels.check_wheel(wheel(tmp_path, 183), "x86_64")


def test_a_wheel_without_libraries(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="built without a compiler"):
        wheels.check_wheel(wheel(tmp_path, 62, libraries=()), "x86_64")


@pytest.mark.parametrize("name", ["ort_rknn-0.1.0-py3-none-any.whl", "ort_rknn-0.1.0-py3-none-linux_x86_64.whl"])
def test_a_name_the_registry_refuses(tmp_path: Path, name: str) -> None:
    with pytest.raises(SystemExit, match="is no py3-none-manylinux2014_x86_64 wheel"):
        wheels.check_wheel(wheel(tmp_path, 62, name), "x86_64")


def test_the_page_asks_for_the_wheels_that_are_asked_for_here() -> None:
    """pip takes a platform's name for itself only: one word less, and it finds no ort-rknn or no onnxruntime."""
    page = (wheels.ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith("pip download"))
    assert re.findall(r"--platform (\S+)", line) == [f"{policy}_aarch64" for policy in wheels.ASKED_FOR]


def test_the_notes_are_those_of_the_version() -> None:
    assert "ort-rknn demo" in wheels.notes(wheels.version_here())
    with pytest.raises(SystemExit, match="no section '## 9"):
        wheels.notes("9.9.9")
