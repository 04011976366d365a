"""``install()``, ``python -m ort_rknn``: programs that import onnxruntime get ours, and see nothing else of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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


@pytest.mark.usefixtures("installed")
def test_promotion_does_not_catch_our_own_sessions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.helpers.fake_toolkit import fake_toolkit

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
