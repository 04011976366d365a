"""The wheel holds the three packages and nothing else that would land in site-packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ort_rknn", "ort_rknn_converters", "ort_rknn_conformance")
OTHER_DISTRIBUTION = ROOT / "ort_rknn" / "native" / "ep" / "package"
SOURCES = ("ort_rknn", "converters", "conformance", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel built from a copy of the sources, with the build tools that are installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__", "build"))
        else:
            shutil.copy(origin, source / name)
    program = f"from scikit_build_core.build import build_wheel; build_wheel({str(folder)!r})"
    # scikit-build-core compiles by itself where cmake is there; where it is not, the wheel is one without the library.
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=source, env=dict(os.environ), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_only_our_packages(wheel: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_every_module_is_in(wheel: list[str]) -> None:
    folders = {
        "ort_rknn": ROOT,
        "ort_rknn_converters": ROOT / "converters",
        "ort_rknn_conformance": ROOT / "conformance",
    }
    for package, parent in folders.items():
        paths = (path for path in (parent / package).rglob("*.py") if OTHER_DISTRIBUTION not in path.parents)
        modules = {path.relative_to(parent).as_posix() for path in paths}
        assert modules <= set(wheel), sorted(modules - set(wheel))
        assert f"{package}/py.typed" in wheel


def test_no_sources_of_the_library(wheel: list[str]) -> None:
    assert not [name for name in wheel if name.startswith("ort_rknn/native/ep/")]
    assert [name for name in wheel if name.endswith((".c", ".h", "CMakeLists.txt", ".pyc"))] == []


def test_both_libraries_are_in(wheel: list[str]) -> None:
    libraries = {"ort_rknn/native/lanes.so", "ort_rknn/native/libonnxruntime_ep_rknn.so"}
    assert {name for name in wheel if name.endswith(".so")} in (libraries, set())  # none without a compiler


def test_the_board_test_finds_its_models_in_the_wheel(wheel: list[str]) -> None:
    folder = ROOT / "conformance" / "ort_rknn_conformance" / "doctor" / "models"
    assert {f"ort_rknn_conformance/doctor/models/{path.name}" for path in folder.iterdir()} <= set(wheel)
