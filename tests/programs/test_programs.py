"""Real programs, unmodified, in an environment of their own: the same answers as with onnxruntime, every session ours.

``make test-programs`` runs them. What pip cannot install is skipped with pip's reason.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.example_programs import (
    COMMAND,
    INSTALLED,
    OURS,
    PROGRAMS,
    PYTHON,
    VENV,
    Program,
    environment,
    installed,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NAMES = [name for name in PROGRAMS if name != "rapidocr-service"]


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


def run(program: Program, folder: Path, *front: str, **variables: str) -> Ended:
    """Run the program, with ``front`` before its name, in ``folder``."""
    witness = folder / "witness.json"
    witness.unlink(missing_ok=True)
    done = subprocess.run(
        [str(PYTHON), *front, *program.command],
        env=environment(WITNESS=str(witness), **variables),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sessions = json.loads(witness.read_text(encoding="utf-8"))
    own = [row for row in sessions if "site-packages" in row["model"]]  # the others are the simulator's
    return Ended(done.stdout.splitlines(), done.stderr, own)


@pytest.mark.parametrize("front", [COMMAND, INSTALLED], ids=["command", "install"])
@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.toolkit
@pytest.mark.parametrize("name", NAMES)
def test_on_the_simulated_npu_it_says_the_same(name: str, tmp_path: Path) -> None:
    """Compiled at the first call of each shape, by the real toolkit; kept between runs of these tests."""
    from ort_rknn_converters.toolkit.setup.environment import find_python

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
    if name.startswith("rapidocr"):
        for row in ours.sessions:
            assert row["providers"][0] == "RKNNExecutionProvider", row
            assert "on the NPU" in row["plan"], row["plan"]
