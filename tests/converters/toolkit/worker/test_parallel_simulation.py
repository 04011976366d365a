"""The simulator beside the compiler: whatever becomes of the copy, there is an answer, and nobody is left over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ort_rknn_converters.toolkit.compile import CompileRequest, compile_segment
from ort_rknn_converters.toolkit.setup.environment import find_python
from ort_rknn_converters.toolkit.worker import main
from tests.helpers.toolkits import real as models

WORKER = Path(main.__file__)

_SCRIPT = """
import importlib.util, json, os, sys, types

def load(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(sys.argv[1], name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

parallel_simulation, worker = load("parallel_simulation"), load("main")
{prepare}
for name in ("rknn", "rknn.api", "rknn.api.rknn_compiler"):
    sys.modules[name] = types.ModuleType(name)

class RKNNCompiler:
    @staticmethod
    def build(path):
        print("compiled", path)
        return 7

sys.modules["rknn.api.rknn_compiler"].RKNNCompiler = RKNNCompiler

class Toolkit:
    class rknn_base:
        check_rknn_path = "missing"
        class ir:
            inputs, outputs = ["x"], ["y"]
    def init_runtime(self):
        return 0 if os.path.isabs(self.rknn_base.check_rknn_path) else -1

toolkit = Toolkit()
simulation = parallel_simulation.Simulation(worker.beside("parent_death").end_with_parent, lambda: None)
with simulation.beside_the_compiler():
    code = RKNNCompiler.build("check.onnx")
    RKNNCompiler.build("once more")
if simulation.here:
    try:
        def simulate(inputs, outputs):
            print("simulated", inputs, outputs)
            {simulate}
        simulation.leave(toolkit, simulate)
    finally:
        os._exit(1)
answers = simulation.answers({inputs}, ["y"])
sys.stdout.flush()
try:
    os.waitpid(-1, os.WNOHANG)
    left = True
except ChildProcessError:
    left = False
print(json.dumps([code, answers, left]))
"""


def run(
    folder: Path, *, simulate: str = "return ['answer']", prepare: str = "", inputs: str = "['x']"
) -> tuple[Any, str]:
    """What became of it, and all that was printed before."""
    script = _SCRIPT.format(simulate=simulate, prepare=prepare, inputs=inputs)
    command = [sys.executable, "-c", script, str(WORKER.parent)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    printed, _, last = done.stdout.rstrip("\n").rpartition("\n")
    return json.loads(last), printed


def test_the_copy_simulates_while_the_compiler_compiles(tmp_path: Path) -> None:
    result, printed = run(tmp_path)
    assert result == [7, ["answer"], False]
    # The compiler is called as often as without, and what the copy prints comes in one piece.
    assert printed.splitlines() == ["compiled check.onnx", "compiled once more", "simulated ['x'] ['y']"]


@pytest.mark.parametrize(
    "simulate",
    ["raise ValueError", "os.abort()", "sys.exit(0)", "import signal; signal.pause()"],
    ids=["error", "crash", "exit", "hang"],
)
def test_a_copy_that_fails_gives_no_answer_and_does_not_stay(tmp_path: Path, simulate: str) -> None:
    result, printed = run(
        tmp_path, simulate=simulate, prepare="parallel_simulation.LEAST_S = parallel_simulation.PATIENCE = 0.5"
    )
    assert result == [7, None, False]
    assert "simulated" not in printed


def test_answers_to_something_else_do_not_count(tmp_path: Path) -> None:
    assert run(tmp_path, inputs="['x', 'dropped']")[0] == [7, None, False]


def test_without_room_for_a_second_process_there_is_none(tmp_path: Path) -> None:
    prepare = "def no_room(): raise OSError\nos.fork = no_room"
    assert run(tmp_path, prepare=prepare)[0] == [7, None, False]


@pytest.mark.toolkit
def test_beside_and_after_the_compiler_the_simulator_says_the_same(tmp_path: Path) -> None:
    model, feed = models.conv()
    request = CompileRequest(model, "rk3588", feeds=(feed, {"x": feed["x"] * 2}))
    beside = compile_segment(request)
    assert "use simulator" in beside.log
    (tmp_path / "sitecustomize.py").write_text("import os\ndef fork(): raise OSError\nos.fork = fork\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec "{find_python().python}" "$@"\n')
    python.chmod(0o755)
    after = compile_segment(request, python=str(python))
    for one, other in zip(beside.outputs, after.outputs, strict=True):
        np.testing.assert_array_equal(one["y"], other["y"])
    assert beside.layers == after.layers
