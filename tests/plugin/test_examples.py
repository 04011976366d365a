"""The examples in Python, C and C++, on code with real numbers of the digits' network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from ort_rknn_converters.options import ConvertOptions
from tests.helpers.emulator import build_emulator
from tests.helpers.plugin import VERSION, build_plugin, plugin_session, registered
from tests.helpers.toolkits.emulated import emulated_compile

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "plugin"
LIBRARY = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"), None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled network, four images, and the labels that the emulated runtime's numbers give."""
    from ort_rknn_converters.pipeline.convert import convert

    made = tmp_path_factory.mktemp("digits")
    model = onnx.load(ROOT / "examples" / "digits" / "digits.onnx")
    convert(model, options=ConvertOptions(min_gain=0), compile=emulated_compile).save(
        made / "digits.rknn.onnx", embed=False, strip=True
    )
    images = np.random.default_rng(0).random((4, 1, 1, 8, 8), np.float32)
    images.tofile(made / "digits.f32")
    with registered(build_emulator()):
        session = plugin_session(made / "digits.rknn.onnx")
        labels = [int(session.run(None, {"image": image})[0].argmax()) for image in images]
        del session
    (made / "labels").write_text("".join(f"{label}\n" for label in labels))
    return made


def check(folder: Path, *command: str | Path) -> None:
    environment = os.environ | {
        "ORT_RKNN_RUNTIME_LIBRARY": str(build_emulator()),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "converters")]),
    }
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (folder / "labels").read_text()


def test_python(folder: Path, tmp_path: Path) -> None:
    package = tmp_path / "onnxruntime_ep_rknn"
    shutil.copytree(ROOT / "ort_rknn" / "native" / "ep" / "package" / "onnxruntime_ep_rknn", package)
    shutil.copy(build_plugin(), package)
    start = "import sys, runpy; _, there, *sys.argv = sys.argv; sys.path.insert(0, there); runpy.run_path(sys.argv[0])"
    command = [sys.executable, "-c", start, str(tmp_path), str(EXAMPLES / "classify.py")]
    check(folder, *command, folder / "digits.rknn.onnx", folder / "digits.f32")


def test_c_and_cpp(folder: Path, tmp_path: Path) -> None:
    if LIBRARY is None or VERSION < (1, 24) or not shutil.which("cmake"):
        pytest.skip("needs cmake, and an onnxruntime of 1.24 with a shared library of its own")
    subprocess.run(
        ["cmake", "-S", str(EXAMPLES), "-B", str(tmp_path), f"-DONNXRUNTIME={LIBRARY}"], check=True, capture_output=True
    )
    subprocess.run(["cmake", "--build", str(tmp_path)], check=True, capture_output=True)
    for language in ("c", "cpp"):
        program = tmp_path / f"classify_{language}"
        check(folder, program, build_plugin(), folder / "digits.rknn.onnx", folder / "digits.f32")
