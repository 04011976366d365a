"""The distribution onnxruntime-ep-rknn: what it is made of, and what it says of a machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.helpers.emulator import build_emulator
from tests.helpers.plugin import build_plugin

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ort_rknn" / "native" / "ep" / "package"


def installed(folder: Path, *, library: bool = True) -> Path:
    """The module as if it were installed."""
    module = folder / "onnxruntime_ep_rknn"
    module.mkdir()
    for path in (PACKAGE / "onnxruntime_ep_rknn").glob("*.py"):
        (module / path.name).write_bytes(path.read_bytes())
    if library:
        (module / "libonnxruntime_ep_rknn.so").write_bytes(build_plugin().read_bytes())
    return folder


def python(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ORT_RKNN_")}
    environment = clean | {"PYTHONPATH": str(folder)} | more
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=100)


def test_it_says_what_is_there(tmp_path: Path) -> None:
    folder = installed(tmp_path)
    done = python(folder, "-m", "onnxruntime_ep_rknn", ORT_RKNN_RUNTIME_LIBRARY=str(build_emulator()))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "device              NPU of Rockchip" in done.stdout
    done = python(folder, "-m", "onnxruntime_ep_rknn")
    assert done.returncode == 1
    assert "device              none" in done.stdout
    assert "no NPU can be used: " in done.stderr


def test_a_library_that_is_missing_is_said(tmp_path: Path) -> None:
    done = python(installed(tmp_path, library=False), "-m", "onnxruntime_ep_rknn")
    assert done.returncode == 1
    assert "was installed without it. Install the wheel for your CPU" in done.stdout


def test_it_imports_nothing_but_the_standard_library(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); import onnxruntime_ep_rknn as plugin; "
        "assert plugin.get_ep_names() == [plugin.get_ep_name()] == ['RKNNExecutionProvider']; "
        "assert plugin.get_library_path().endswith('libonnxruntime_ep_rknn.so'); "
        "print(*(name for name in set(sys.modules) - before if name.partition('.')[0] not in sys.stdlib_module_names))"
    )
    done = python(installed(tmp_path), "-S", "-c", code)
    assert done.stdout.split() == ["onnxruntime_ep_rknn"], done.stderr


@pytest.mark.slow
def test_the_sdist_holds_all_that_the_wheel_needs(tmp_path: Path) -> None:
    """The wheel is made of the unpacked sdist, as on a board."""
    subprocess.run([sys.executable, str(PACKAGE / "build.py"), "--out", str(tmp_path)], check=True, timeout=300)
    (sdist,) = tmp_path.glob("*.tar.gz")
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith("onnxruntime_ep_rknn-0.1.0-py3-none-linux")
    names = {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {"__init__.py", "__main__.py", "py.typed", "libonnxruntime_ep_rknn.so"}
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("onnxruntime_ep_rknn-*/")
    code = "import sys; from scikit_build_core.build import build_wheel; build_wheel(sys.argv[1])"
    made = tmp_path / "again"
    made.mkdir()
    subprocess.run([sys.executable, "-c", code, str(made)], cwd=unpacked, check=True, capture_output=True, timeout=300)
    (again,) = made.glob("*.whl")
    with zipfile.ZipFile(again) as archive:
        archive.extractall(made)
    done = python(made, "-m", "onnxruntime_ep_rknn", ORT_RKNN_RUNTIME_LIBRARY=str(build_emulator()))
    assert done.returncode == 0, done.stdout + done.stderr
