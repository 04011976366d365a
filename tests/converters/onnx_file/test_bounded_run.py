"""Runs of a user's graph end, whatever the graph."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ort_rknn_converters.errors import ModelError, RunFailed
from ort_rknn_converters.numerics import whole_run
from ort_rknn_converters.numerics.reference_run import run_measured
from ort_rknn_converters.onnx_file import bounded_run
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.bounded_run import Run, bounded
from tests.helpers.endless import IMAGE, behind_a_loop, endless_loop

ROOT = Path(__file__).parents[3]
FEED = {"x": np.zeros(IMAGE, np.float32)}


def run_of(proto: Any) -> Any:
    def work(run: Run) -> Any:
        return ort.on_cpu(proto.SerializeToString(), ort.quiet_options()).run(None, FEED, run.options)

    return work


def test_what_ends_gives_its_result() -> None:
    assert bounded(lambda _: 42, 1.0, "it") == 42


def test_what_it_raises_is_raised() -> None:
    def fails(_: Run) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        bounded(fails, 1.0, "it")


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """A run that is left behind would take a core from every test after it."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ort_rknn runs")]


def test_an_endless_loop_is_left() -> None:
    began = time.monotonic()
    with pytest.raises(RunFailed, match=r"a run of it took more than 0\.3 s on ONNX Runtime") as caught:
        bounded(run_of(endless_loop()), 0.3, "it")
    assert caught.value.kind == "timeout"
    assert time.monotonic() - began < 5


_LEFT_BEHIND = """
import sys, threading
import numpy as np
from ort_rknn_converters.numerics import whole_run
from ort_rknn_converters.onnx_file import bounded_run, onnxruntime as ort
from ort_rknn_converters.pipeline import convert
from tests.helpers.endless import IMAGE, behind_a_loop, endless_loop
from tests.helpers.toolkits.scripted import VERSION, ScriptedToolkit

bounded_run._GRACE_S, whole_run.QUICK_S = 0.2, 0.5
loop = endless_loop(empty=True).SerializeToString()
feed = {"x": np.zeros(IMAGE, np.float32)}
try:
    work = lambda run: ort.on_cpu(loop, ort.quiet_options()).run(None, feed, run.options)
    bounded_run.bounded(work, 0.3, "it")
except bounded_run.RunFailed as error:
    print(error.kind)
sys.modules["ort_rknn_converters.pipeline.convert"].toolkit_version = lambda: VERSION
model = convert.convert(
    behind_a_loop(empty=True), min_gain=0, compile=ScriptedToolkit(), known_failures=sys.argv[1]
)
print(*[node.op_type for node in model.plan.nodes if node.place != "CPU"][-2:])
print(sum(thread.name.startswith("ort_rknn runs") for thread in threading.enumerate()))
"""


def test_a_loop_that_cannot_be_ended_is_left_behind(tmp_path: Path) -> None:
    """In a program of its own, which ends with it: ONNX Runtime never looks up from a Loop without nodes."""
    done = subprocess.run(
        [sys.executable, "-c", _LEFT_BEHIND, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split("\n")[:3] == ["timeout", "Conv Sigmoid", "2"], done.stderr
    assert done.returncode == 0


def test_its_thread_ends_too() -> None:
    with pytest.raises(RunFailed):
        bounded(run_of(endless_loop()), 0.2, "a loop with a name of its own")
    assert not any("a loop with a name of its own" in thread.name for thread in threading.enumerate())


def test_each_feed_has_the_time() -> None:
    def work(run: Run) -> int:
        for _ in range(3):
            run.next_feed()
            threading.Event().wait(0.2)
        return 1

    assert bounded(work, 0.45, "it") == 1


def test_one_that_eats_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_run, "free_memory", lambda: 50e6)
    with pytest.raises(RunFailed, match="all the memory there is") as caught:
        bounded(run_of(endless_loop(keeps=True)), 60.0, "it")
    assert caught.value.kind == "memory"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("bad allocation")])
def test_no_memory_is_of_the_moment(error: Exception) -> None:
    def fails(_: Run) -> None:
        raise error

    with pytest.raises(RunFailed, match="more memory than there is"):
        bounded(fails, 1.0, "it")


def test_a_part_that_does_not_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ort_rknn_converters.numerics.reference_run.SLOW_S", 0.2)
    with pytest.raises(RunFailed, match="a run of the segment took more than"):
        run_measured(endless_loop(), [FEED])


def test_a_part_that_cannot_run_is_another_error() -> None:
    with pytest.raises(ModelError, match="cannot run the segment") as caught:
        run_measured(endless_loop(), [{}])
    assert not isinstance(caught.value, RunFailed)


@pytest.mark.parametrize("how", [{}, {"keeps": True}])
def test_a_conv_behind_it_is_compiled_all_the_same(
    how: dict[str, bool], made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On random values of its own; the whole model is tried once."""
    monkeypatch.setattr(whole_run, "QUICK_S", 0.5)
    compiled = made(behind_a_loop(**how))
    assert [node.op_type for node in compiled.plan.nodes if node.place != "CPU"][-2:] == ["Conv", "Sigmoid"]
    assert any("random values of their own, because a run of the whole model" in note for note in compiled.plan.notes)
    assert not compiled.provisional
