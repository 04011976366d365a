"""``install()``, ``python -m ort_rknn``: programs that import onnxruntime get ours, and see nothing else of it."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import ort_rknn
from tests.helpers.ort_models import model

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def installed() -> Iterator[None]:
    ort_rknn.install()
    ort_rknn.install()
    yield
    ort_rknn.uninstall()


def test_install_and_uninstall() -> None:
    theirs = {name: getattr(onnxruntime, name) for name in dir(onnxruntime) if not name.startswith("__")}
    ort_rknn.install()
    try:
        assert onnxruntime.InferenceSession is ort_rknn.InferenceSession
        assert onnxruntime.get_available_providers is ort_rknn.get_available_providers
        assert onnxruntime.RunOptions is theirs["RunOptions"]
    finally:
        ort_rknn.uninstall()
        ort_rknn.uninstall()
    assert theirs == {name: getattr(onnxruntime, name) for name in dir(onnxruntime) if not name.startswith("__")}


COLLECTION = "onnxruntime.capi.onnxruntime_inference_collection"
EXTENSION = "onnxruntime.capi.onnxruntime_pybind11_state"


@pytest.mark.filterwarnings("ignore:onnx.version is deprecated")  # onnxruntime.backend uses it
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (COLLECTION, "InferenceSession"),
        (COLLECTION, "IOBinding"),
        (COLLECTION, "OrtValue"),
        ("onnxruntime.backend.backend", "InferenceSession"),
        ("onnxruntime.backend.backend", "SessionOptions"),
        ("onnxruntime.capi._pybind_state", "SessionIOBinding"),
        ("onnxruntime.capi._pybind_state", "get_available_providers"),
        (EXTENSION, "SessionOptions"),
        (EXTENSION, "get_all_providers"),
    ],
)
def test_every_module_of_onnxruntime_has_ours(module: str, name: str) -> None:
    assert getattr(importlib.import_module(module), name) is getattr(onnxruntime, name)
    assert getattr(onnxruntime, name) is getattr(ort_rknn, name)


def test_installed_compilers_are_ours_where_onnxruntime_has_them() -> None:
    ort_rknn.install()
    try:
        assert getattr(onnxruntime, "ModelCompiler", None) is getattr(ort_rknn, "ModelCompiler", None)
    finally:
        ort_rknn.uninstall()


@pytest.mark.filterwarnings("ignore:onnx.version is deprecated")  # onnxruntime.backend uses it
def test_nothing_stays_behind_in_any_module() -> None:

    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "onnxruntime"]
    theirs = [dict(vars(module)) for module in modules]
    ort_rknn.install()
    ort_rknn.uninstall()
    assert [dict(vars(module)) for module in modules] == theirs


@pytest.mark.usefixtures("installed")
def test_type_hints_and_pickles_name_our_class() -> None:
    from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession, Session

    hints = typing.get_type_hints(Session.io_binding)  # onnxruntime 1.20 has none
    assert hints.get("return", onnxruntime.IOBinding) is onnxruntime.IOBinding is ort_rknn.IOBinding
    taken_before = b"\x80\x04c" + f"{COLLECTION}\nInferenceSession\n.".encode()
    assert pickle.loads(taken_before) is InferenceSession is ort_rknn.InferenceSession
    assert pickle.loads(pickle.dumps(onnxruntime.InferenceSession)) is InferenceSession


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("providers", [["CPUExecutionProvider"], ["RKNNExecutionProvider"], None])
def test_installed_sessions_run_and_bind(providers: list[str] | None) -> None:
    from onnxruntime.capi import _pybind_state as C

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("a", "b")
    session = onnxruntime.InferenceSession(model("two"), options, providers=providers)
    feed = {node.name: np.ones([3, 2], np.float32) for node in session.get_inputs()}
    expected = session.run(["Y"], feed)[0]
    binding = session.io_binding()
    for name, value in feed.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
    binding.bind_output("Y")
    session.run_with_iobinding(binding)
    assert isinstance(binding.get_outputs()[0], onnxruntime.OrtValue)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], expected)
    assert isinstance(session.get_session_options(), C.SessionOptions)
    assert not isinstance(None, (C.SessionOptions, onnxruntime.OrtValue))


STANDS_IN = """
import sys
import ort_rknn
sys.modules["onnxruntime"] = ort_rknn
"""


@pytest.mark.parametrize(
    "program",
    [
        "import onnxruntime\nassert onnxruntime.InferenceSession is ort_rknn.InferenceSession",
        "del sys.modules['onnxruntime']\nimport onnxruntime\nsys.modules['onnxruntime'] = ort_rknn\n"
        "import onnxruntime\nassert onnxruntime.InferenceSession is ort_rknn.InferenceSession\n"
        "from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession\n"
        "assert InferenceSession is ort_rknn.InferenceSession and onnxruntime.RunOptions()",
        "import onnxruntime as ort\nassert ort.RunOptions().log_verbosity_level == 0 and ort.get_device() == 'CPU'",
        "from onnxruntime import InferenceSession, SessionOptions, OrtValue, __version__",
        "from onnxruntime import *\nassert InferenceSession is ort_rknn.InferenceSession",
        "import onnxruntime.capi\nassert onnxruntime.capi._pybind_state.SessionOptions is onnxruntime.SessionOptions",
        "from onnxruntime.capi import _pybind_state as C\nimport onnxruntime\n"
        "assert C.SessionOptions is onnxruntime.SessionOptions",
        "from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument\nraise SystemExit",
        "from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession\n"
        "assert InferenceSession is ort_rknn.InferenceSession",
        "import onnxruntime.quantization\nonnxruntime.quantization.quantize_dynamic\n"
        "from onnxruntime.quantization import quantize\nassert quantize.__module__.startswith('onnxruntime.')",
        "from onnxruntime.quantization.calibrate import CalibrationMethod\n"
        "assert CalibrationMethod is sys.modules['onnxruntime.quantization.calibrate'].CalibrationMethod",
        "import onnxruntime.tools, onnxruntime.tools.symbolic_shape_infer, onnxruntime.transformers",
        "import onnxruntime.backend as backend\nassert backend is ort_rknn.backend and backend.prepare",
        "from onnxruntime.backend import backend, backend_rep\nbackend.OnnxRuntimeBackend",
        "import ort_rknn.backend\nimport onnxruntime.backend.backend\n"
        "assert onnxruntime.backend.backend.InferenceSession is ort_rknn.InferenceSession",
        "import onnxruntime.datasets\nassert onnxruntime.datasets.get_example",
        "import ort_rknn.capi._pybind_state, onnxruntime\n"
        "assert ort_rknn.capi._pybind_state is sys.modules['onnxruntime.capi._pybind_state']",
        "import onnxruntime\nort_rknn.install()\nort_rknn.uninstall()\n"
        "assert onnxruntime.InferenceSession is ort_rknn.InferenceSession",
        "del sys.modules['onnxruntime']\nimport onnxruntime\nassert onnxruntime is not ort_rknn",
        "import onnxruntime\ntry:\n    onnxruntime.nope\nexcept AttributeError: pass\nelse: raise SystemExit(1)",
        "try:\n    import onnxruntime.nope\nexcept ModuleNotFoundError as e: assert e.name == 'onnxruntime.nope'",
    ],
)
def test_this_package_entered_as_onnxruntime(program: str, tmp_path: Path) -> None:
    done = _run(["-c", STANDS_IN + program], tmp_path)
    assert done.returncode == 0, done.stderr


def test_entered_as_onnxruntime_it_runs_models(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(model("two"))
    program = """
import numpy, onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=onnxruntime.get_available_providers())
feed = {node.name: numpy.ones([3, 2], numpy.float32) for node in session.get_inputs()}
print(type(session).__module__, session.run(None, feed)[0].shape)
try:
    session.run(["nope"], feed)
except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument as error:
    print(error)
"""
    done = _run(["-c", STANDS_IN + program], tmp_path)
    assert done.stdout.splitlines() == [
        "ort_rknn.api.session (3, 2)",
        "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Invalid output name:nope",
    ], done.stderr


@pytest.mark.usefixtures("installed")
def test_promotion_does_not_catch_our_own_sessions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.helpers.toolkits.fake import fake_toolkit

    monkeypatch.setenv("ORT_RKNN_PROMOTE_CPU", "1")
    monkeypatch.setenv("ORT_RKNN_DEVICE", "simulator")
    with fake_toolkit(tmp_path):
        session = onnxruntime.InferenceSession(model("mixed"), providers=["CPUExecutionProvider"])
    assert isinstance(session, ort_rknn.InferenceSession)
    assert session.plan.target == "rk3588"


PROGRAM = """
import sys, os, json
import onnxruntime as ort
from onnxruntime import InferenceSession
session = InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
main = sys.modules["__main__"]
print(json.dumps({
    "ours": type(session).__module__, "argv": sys.argv[1:], "name": __name__, "path": sys.path[0],
    "main": main.__dict__ is globals(), "file": __file__, "version": ort.__version__,
}))
sys.exit(7)
"""


def _run(arguments: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "converters"), *filter(None, [environment.pop("extra", "")])])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        timeout=60,
    )


def test_a_script_runs_as_it_would_alone(tmp_path: Path) -> None:
    import json

    (tmp_path / "sub").mkdir()
    script = tmp_path / "sub" / "program.py"
    script.write_text(PROGRAM)
    (tmp_path / "model.onnx").write_bytes(model("two"))
    results = []
    for prefix in ([], ["-m", "ort_rknn"]):
        done = _run([*prefix, "sub/program.py", "model.onnx", "--flag", "-m"], tmp_path)
        assert done.returncode == 7, done.stderr
        results.append(json.loads(done.stdout))
    plain, ours = results
    assert plain.pop("ours") == "onnxruntime.capi.onnxruntime_inference_collection"
    assert ours.pop("ours") == "ort_rknn.api.session"
    assert ours == plain


def test_a_module_runs_as_it_would_alone(tmp_path: Path) -> None:
    import json

    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "model.onnx").write_bytes(model("two"))
    done = _run(["-m", "ort_rknn", "-m", "program", "model.onnx"], tmp_path)
    assert done.returncode == 7, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["ours"], facts["name"], facts["argv"]) == ("ort_rknn.api.session", "__main__", ["model.onnx"])


def test_a_failing_script_fails_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("raise KeyError('gone')")
    done = _run(["-m", "ort_rknn", "program.py"], tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("KeyError: 'gone'")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "usage: python -m ort_rknn program.py"),
        (["--help"], 0, "usage: python -m ort_rknn program.py"),
        (["nope.py"], 1, "can't open file"),
        (["-m"], 1, "Argument expected for the -m option"),
        (["-m", "no_such_module_here"], 1, "No module named no_such_module_here"),
    ],
)
def test_what_cannot_be_run(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    done = _run(["-m", "ort_rknn", *arguments], tmp_path)
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done
