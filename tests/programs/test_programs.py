"""Real programs, unmodified, in an environment of their own: the same answers as with onnxruntime, every session ours.

``make test-programs`` runs them. What pip cannot install is skipped with pip's reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VENV = ROOT / ".venv" / "programs"
PYTHON = VENV / "bin" / "python"
SCRIPTS = HERE / "scripts"
OURS = "ort_rknn.session.InferenceSession"


@dataclass(frozen=True)
class Program:
    """A program.

    Attributes:
        script: What is run, and its arguments.
        packages: What it is made of.
        sessions: How many sessions it makes.
    """

    script: tuple[str, ...]
    packages: tuple[str, ...]
    sessions: int


PROGRAMS = {
    "rapidocr": Program(("ocr.py", "all"), ("rapidocr-onnxruntime==1.4.4",), 3),
    "magika": Program(("file_types.py",), ("magika==1.0.3",), 1),
    "faster-whisper": Program(("speech.py",), ("faster-whisper==1.2.1",), 1),
    "piper": Program(("vowels.py",), ("piper-tts==1.8.0",), 2),
    "nudenet": Program(("detect.py",), ("nudenet==3.4.2",), 1),
}


@dataclass
class Ended:
    """What a run of a program left.

    Attributes:
        lines: Its standard output.
        log: Its standard error.
        sessions: From the witness.
    """

    lines: list[str]
    log: str
    sessions: list[dict[str, Any]] = field(default_factory=list)


@cache
def pip(*packages: str) -> str:
    """Install into the programs' environment; pip's last line when it fails, else nothing."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True, capture_output=True)
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stderr.strip().splitlines() or ["pip failed"])[-1] if done.returncode else ""


def installed(name: str) -> Program:
    """The program, installed beside this very onnxruntime and what ort_rknn needs."""
    from importlib.metadata import version

    program = PROGRAMS[name]
    needed = ("onnx", "onnx-ir", "onnxruntime", "numpy", "click", "filelock", "platformdirs", "pillow", "rich")
    pins = [f"{package}=={version(package)}" for package in needed]
    problem = pip(*pins) or pip(*program.packages, *pins)
    if problem:
        pytest.skip(f"{name} cannot be installed here: {problem}")
    return program


def run(program: Program, folder: Path, *front: str, **environment: str) -> Ended:
    """Run the program, with ``front`` before its name, in ``folder``."""
    witness = folder / "witness.json"
    witness.unlink(missing_ok=True)
    path = [str(HERE / "witness"), str(ROOT), str(ROOT / "converters")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ORT_RKNN_")}
    done = subprocess.run(
        [str(PYTHON), *front, str(SCRIPTS / program.script[0]), *program.script[1:]],
        env=clean | {"PYTHONPATH": os.pathsep.join(path), "WITNESS": str(witness)} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sessions = json.loads(witness.read_text(encoding="utf-8"))
    own = [row for row in sessions if "site-packages" in row["model"]]  # the others are the simulator's
    return Ended(done.stdout.splitlines(), done.stderr, own)


INSTALLED = ("-c", "import ort_rknn, runpy, sys; ort_rknn.install(); del sys.argv[0]; kept = "
             "runpy.run_path(sys.argv[0], run_name='__main__')")  # fmt: skip
COMMAND = ("-m", "ort_rknn")


@pytest.mark.parametrize("front", [COMMAND, INSTALLED], ids=["command", "install"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_without_an_npu_it_is_the_same_program(name: str, front: tuple[str, ...], tmp_path: Path) -> None:
    program = installed(name)
    plain = run(program, tmp_path)
    assert plain.lines
    assert {row["class"] for row in plain.sessions} == {
        "onnxruntime.capi.onnxruntime_inference_collection.InferenceSession"
    }
    ours = run(program, tmp_path, *front)
    assert ours.lines == plain.lines
    assert [row["class"] for row in ours.sessions] == [OURS] * program.sessions


OVERFLOWS = (
    "its sums of squares pass fp16's largest number, which the plan says of them; boards may or may not keep them"
)


@pytest.mark.toolkit
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.xfail(reason=OVERFLOWS)) if name == "magika" else name for name in PROGRAMS],
)
def test_on_the_simulated_npu_it_says_the_same(name: str, tmp_path: Path) -> None:
    """Compiled at the first call of each shape, by the real toolkit; kept between runs of these tests."""
    from ort_rknn_converters.toolkit.environment import find_python

    program = installed(name)
    if name == "rapidocr":
        program = Program(("ocr.py", "one"), program.packages, program.sessions)
    plain = run(program, tmp_path)
    (tmp_path / "config.toml").write_text('compile = "load"\nmin_gain = 0\n', encoding="utf-8")
    ours = run(
        program,
        tmp_path,
        *COMMAND,
        ORT_RKNN_PROMOTE_CPU="1",
        ORT_RKNN_DEVICE="simulator",
        ORT_RKNN_CONFIG=str(tmp_path / "config.toml"),
        ORT_RKNN_CACHE_DIR=str(VENV / "cache"),
        ORT_RKNN_TOOLKIT_PYTHON=find_python().python,
    )
    assert ours.lines == plain.lines
    assert [row["class"] for row in ours.sessions] == [OURS] * program.sessions
    for row in ours.sessions:
        print(row["model"], row["providers"], row["plan"], sep="\n")
    if name == "rapidocr":
        for row in ours.sessions:
            assert row["providers"][0] == "RKNNExecutionProvider", row
            assert "on the NPU" in row["plan"], row["plan"]
