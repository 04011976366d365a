"""The module: every public name of onnxruntime, the very objects; submodules; nothing heavy at import."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import onnxruntime
import pytest

import ort_rknn

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = sorted(name for name in vars(onnxruntime) if not name.startswith("_"))
OURS = {
    "backend",
    "IOBinding",
    "InferenceSession",
    "ModelCompiler",
    "SessionIOBinding",
    "OrtValue",
    "SessionOptions",
    "get_all_providers",
    "get_available_providers",
}
SUBMODULES = (
    "capi",
    "capi._pybind_state",
    "capi.onnxruntime_pybind11_state",
    "capi.onnxruntime_inference_collection",
    "capi.onnxruntime_validation",
    "quantization",
    "quantization.quantize",
    "quantization.calibrate",
    "transformers",
    "transformers.io_binding_helper",
    "tools",
    "datasets",
    "backend.backend",
    "backend.backend_rep",
)


def _run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    return done.stdout.strip()


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    theirs, ours = getattr(onnxruntime, name), getattr(ort_rknn, name)
    assert (ours is theirs) == (name not in OURS)
    if isinstance(theirs, type):
        assert issubclass(ours, theirs)


def test_versions_are_onnxruntimes() -> None:
    assert ort_rknn.__version__ is onnxruntime.__version__
    assert ort_rknn.__author__ == onnxruntime.__author__


def test_all_and_dir_are_complete() -> None:
    assert set(PUBLIC) <= set(ort_rknn.__all__)
    assert {*PUBLIC, "install", "RknnError", "make_provider_options"} <= set(dir(ort_rknn))
    names: dict[str, object] = {}
    exec("from ort_rknn import *", names)
    assert names["InferenceSession"] is ort_rknn.InferenceSession
    assert names["RunOptions"] is onnxruntime.RunOptions


@pytest.mark.parametrize("name", ["nope", "Session", "training", "__wrapped__", "__nope__"])
def test_unknown_names_fail_with_pythons_words(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"^module 'ort_rknn' has no attribute '{name}'$"):
        getattr(ort_rknn, name)


def test_the_session_class_is_always_the_same() -> None:
    from ort_rknn.api.session import InferenceSession

    assert ort_rknn.InferenceSession is InferenceSession is ort_rknn.InferenceSession


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules_are_onnxruntimes_own(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnxruntime's own
        try:
            theirs = importlib.import_module(f"onnxruntime.{name}")
        except ImportError as error:  # it wants torch: then so does ours
            with pytest.raises(ImportError, match=str(error)):
                importlib.import_module(f"ort_rknn.{name}")
            return
    spec = theirs.__spec__
    assert importlib.import_module(f"ort_rknn.{name}") is theirs
    assert theirs.__spec__ is spec
    assert theirs.__name__ == f"onnxruntime.{name}"


def test_submodules_import_first_under_our_name() -> None:
    program = (
        "import ort_rknn.capi._pybind_state as ours, onnxruntime.capi._pybind_state as theirs\n"
        "from ort_rknn.quantization import quantize_dynamic\n"
        "import onnxruntime.quantization, ort_rknn.quantization.quantize\n"
        "assert onnxruntime.quantization.quantize_dynamic is quantize_dynamic\n"
        "print(ours is theirs)"
    )
    assert _run(program) == "True"


@pytest.mark.parametrize("first", ["", "import onnxruntime.backend", "import ort_rknn.backend.backend_rep"])
def test_backend_is_ours_however_it_is_imported(first: str) -> None:
    program = (
        f"{first}\nfrom ort_rknn import backend\nimport ort_rknn\nprint(ort_rknn.backend is backend, backend.__name__)"
    )
    assert _run(program) == "True ort_rknn.backend"


def test_unknown_submodules_are_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"ort_rknn\.capi\.nope"):
        importlib.import_module("ort_rknn.capi.nope")
    with pytest.raises(ModuleNotFoundError, match=r"ort_rknn\.nope"):
        importlib.import_module("ort_rknn.nope")


def test_import_touches_nothing() -> None:
    program = (
        "import sys, os, logging, warnings, signal\n"
        "def state(): return (list(sys.path), dict(os.environ), logging.getLogger().level, "
        "list(logging.getLogger().handlers), list(warnings.filters), signal.getsignal(signal.SIGINT))\n"
        "import numpy\n"
        "before = state()\n"
        "import ort_rknn\n"
        "ort_rknn.InferenceSession\n"
        "print(before == state())"
    )
    assert _run(program) == "True"


def test_onnxruntime_is_still_a_distribution() -> None:
    assert _run("import ort_rknn, importlib.metadata as m; print(m.version('onnxruntime'))") == onnxruntime.__version__
