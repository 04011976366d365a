"""Many runs from many threads, and many sessions one after the other: right answers, and nothing grows."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import ort_rknn
from tests.helpers.ort_models import W, model
from tests.helpers.threads import together
from tests.helpers.toolkits.emulated import emulated_npu, emulated_toolkit
from tests.helpers.toolkits.fake import fake_toolkit

SIMULATOR = {"device": "simulator", "min_gain": 0, "compile": "load"}
THREADS, RUNS = 8, 10_000


@pytest.fixture(autouse=True)
def _toolkit(tmp_path: Path) -> Iterator[None]:
    with fake_toolkit(tmp_path / "cache"):
        yield


def open_session(name: str, **options: Any) -> Any:
    return ort_rknn.InferenceSession(model(name), providers=[("RKNNExecutionProvider", {**SIMULATOR, **options})])


def options_for(device: str) -> dict[str, Any]:
    """Provider options."""
    return {**emulated_npu(), "compile": "load"} if device == "npu" else {**SIMULATOR, "device": device}


def toolkit_for(device: str, cache: Path) -> AbstractContextManager[None]:
    """What stands in for the toolkit."""
    return emulated_toolkit(cache) if device == "npu" else fake_toolkit(cache)


def in_threads(work: Callable[[int], None]) -> None:
    """Run ``work(number)`` in eight threads; the first exception of any is raised here."""
    wrong: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            wrong.append(error)

    together(guarded, range(THREADS))
    if wrong:
        raise wrong[0]


@pytest.mark.parametrize("device", ["cpu", "simulator", "npu"])
def test_eight_threads_one_session_mixed_shapes(device: str, tmp_path: Path) -> None:
    """Some shapes have compiled variants, the others run on onnxruntime: 10,000 runs, each answer checked."""
    with toolkit_for(device, tmp_path / "cache"):
        session = open_session("dynamic", **{**options_for(device), "max_shapes": 3})

        def work(number: int) -> None:
            random = np.random.default_rng(number)
            for _ in range(RUNS // THREADS):
                x = random.integers(-9, 9, (int(random.integers(1, 7)), 2)).astype(np.float32)
                (y,) = session.run(["Y"], {"X": x})
                assert y.shape == x.shape
                if device != "npu":  # the emulator makes its numbers up
                    np.testing.assert_array_equal(y, np.maximum(x @ W, 0))

        in_threads(work)
    states = [state.state for state in session.shape_states]
    assert states.count("ready") == (0 if device == "cpu" else 3)


@pytest.mark.parametrize("device", ["cpu", "simulator", "npu"])
def test_a_session_is_used_inside_its_own_callbacks(device: str, tmp_path: Path) -> None:
    feed = {name: np.ones((3, 2), np.float32) for name in "AB"}
    came: list[Any] = []
    ended = threading.Event()
    with toolkit_for(device, tmp_path / "cache"):
        session = open_session("two", **options_for(device))

        def callback(results: Any, left: int, error: str) -> None:
            came.append((error, session.run(["Y"], feed)[0].shape))
            if left:
                session.run_async(["Y"], feed, callback, left - 1)
            else:
                ended.set()

        session.run_async(["Y"], feed, callback, 99)
        assert ended.wait(60)
    assert came == [("", (3, 2))] * 100


def test_eight_threads_all_ways_to_run() -> None:
    """``run``, ``run_async``, ``submit``, bindings and runs that fail, at once on one session."""
    session = open_session("two")

    def work(number: int) -> None:
        random = np.random.default_rng(number)
        for turn in range(250):
            feed = {name: random.integers(-9, 9, (3, 2)).astype(np.float32) for name in "AB"}
            expected = np.maximum(feed["A"] @ W, 0) + feed["B"]
            way = (turn + number) % 5
            if way == 0:
                [y] = session.run(["Y"], feed)
            elif way == 1:
                [y] = session.submit(["Y"], feed).result(30)
            elif way == 2:
                came, box = threading.Event(), []
                session.run_async(["Y"], feed, lambda *answer, box=box, came=came: (box.append(answer), came.set()), 1)
                assert came.wait(30)
                [y] = box[0][0]
            elif way == 3:
                binding = session.io_binding()
                for name, array in feed.items():
                    binding.bind_cpu_input(name, array)
                binding.bind_output("Y")
                session.run_with_iobinding(binding)
                [y] = binding.copy_outputs_to_cpu()
            else:
                with pytest.raises(ValueError, match="Required inputs"):
                    session.run(["Y"], {"A": feed["A"]})
                continue
            np.testing.assert_array_equal(y, expected)

    in_threads(work)


def usage() -> tuple[int, int, int]:
    """Resident kB, threads and open files of this process."""
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]), int(status["Threads"]), len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def nothing_left(before: tuple[int, int, int]) -> bool:
    """Whether there are no more threads and files than before; a thread ends a moment after its session."""
    deadline = time.monotonic() + 20
    while any(now > then for now, then in zip(usage()[1:], before[1:], strict=True)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def make_and_drop(name: str, options: dict[str, Any], count: int) -> None:
    content = model(name)
    feed = {"two": {key: np.ones((3, 2), np.float32) for key in "AB"}}.get(name, {"X": np.ones((3, 2), np.float32)})
    for number in range(count):
        session = ort_rknn.InferenceSession(content, providers=[("RKNNExecutionProvider", options)])
        assert (session.get_providers()[0] == "RKNNExecutionProvider") == (options["device"] != "cpu")
        session.run(None, feed)
        if number % 2:
            session.submit(None, feed).result(30)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("device", ["cpu", "simulator", "npu", "dynamic"])
def test_a_thousand_sessions_leave_nothing(device: str, tmp_path: Path) -> None:
    """Each has its engine, half of them run asynchronously too; the first hundred fill what is kept for ever."""
    options = SIMULATOR if device == "dynamic" else options_for(device)
    name = "dynamic" if device == "dynamic" else "two"
    with toolkit_for(device, tmp_path / "cache"):
        make_and_drop(name, options, 100)
        before = usage()
        make_and_drop(name, options, 900)
        after = usage()
    print(device, before, after)
    assert nothing_left(before)
    assert after[0] - before[0] < 9_000, "more than 10 kB a session"


def test_a_hundred_sessions_leave_no_thread_and_no_file() -> None:
    make_and_drop("two", SIMULATOR, 10)
    before = usage()
    make_and_drop("two", SIMULATOR, 100)
    assert nothing_left(before)


def test_the_reference_behaves_so_too() -> None:
    """onnxruntime itself under the same threads: what is asked of us is what it does."""
    session = onnxruntime.InferenceSession(model("dynamic"), providers=["CPUExecutionProvider"])

    def work(number: int) -> None:
        for rows in range(1, 50):
            x = np.full((rows, 2), number, np.float32)
            np.testing.assert_array_equal(session.run(["Y"], {"X": x})[0], np.maximum(x @ W, 0))

    in_threads(work)
