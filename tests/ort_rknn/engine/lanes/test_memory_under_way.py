"""Memory of jobs under way: inputs go back when the device has the data, outputs are taken when there are any."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ort_rknn.devices.program import BoundNpuStep, Program
from ort_rknn.devices.rknnrt.buffer_pool import LEAST_BYTES
from ort_rknn.devices.rknnrt.native_calls import TABLE_HEAD
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.lanes.base import Task
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import DeviceError, InferenceTimeout
from tests.helpers.emulated_npu import build_native, feeds, npu, segment
from tests.helpers.emulator import Emulator, Model, Tensor
from tests.helpers.engines import LONG

MODEL = Model(
    (Tensor("x", "float16", (1, 3, 160, 160), "nhwc"),),
    (Tensor("y", "float16", (1, LEAST_BYTES // 2)), Tensor("z", "float16", (1, 4))),
)
CODE = segment(MODEL)
INPUT_BYTES, OUTPUT_BYTES = 2 * 3 * 160 * 160, 2 * LEAST_BYTES
"""As it is handed over, in float16; and as it comes, in float32."""


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setenv("ORT_RKNN_NATIVE_LIBRARY", str(build_native()))
    with Emulator().watched() as emulator:
        yield emulator
        emulator.release_hangs()


def engine_of(emulator: Emulator, fallback: Any = None, **options: Any) -> Engine:
    program = Program.from_steps([BoundNpuStep("segment", ("x",), ("y", "z"), CODE)], npu(emulator), outputs=("y", "z"))
    return Engine(program, EngineOptions(schedule=(0,), threads_per_core=1, **options), fallback=fallback)


def check(results: list[Any], tag: int) -> None:
    for got, expected in zip(results, MODEL.answer(feeds(CODE, tag)), strict=True):
        np.testing.assert_array_equal(got, expected)


class Books:
    """Where the data of an engine's jobs were, by the tables that native code got."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tables: list[Any] = []
        self.wrong: list[int] = []
        self._engine = engine
        self._lanes: Any = engine._manager.lanes
        flight = self._lanes._flight

        def seen(task: Task) -> Any:
            made = flight(task)
            self.tables.append(made.table)
            return made

        monkeypatch.setattr(self._lanes, "_flight", seen)

    @property
    def inputs(self) -> list[int]:
        """Words of the inputs."""
        return [table[TABLE_HEAD] for table in self.tables]

    @property
    def outputs(self) -> list[int]:
        """Words of the large outputs."""
        return [table[TABLE_HEAD + 1] for table in self.tables]

    def submit(self, tags: range) -> None:
        """Jobs one after the other; their results are looked at and dropped."""
        ended, left = threading.Event(), [len(tags)]

        def callback(results: list[Any], tag: int, error: str) -> None:
            if error:
                self.wrong.append(tag)
            else:
                check(results, tag)
            left[0] -= 1
            if not left[0]:
                ended.set()

        for tag in tags:
            self._engine.submit({"x": feeds(CODE, tag)[0]}, callback=callback, user_data=tag)
        assert ended.wait(LONG)

    def check_that_all_came_back(self) -> None:
        """The next blocks that are taken are those that were used."""
        self._engine.wait_all(LONG)
        gc.collect()
        blocks = self._lanes._ios[0]._blocks
        for size, words in ((INPUT_BYTES, self.inputs), (OUTPUT_BYTES, self.outputs)):
            used = {word for word in words if not word & 1}
            assert used <= {ctypes.addressof(loan) for loan in [blocks.loan(size) for _ in range(len(used))]}


def test_memory_is_taken_late_and_given_back_early(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(emulator)
    books = Books(engine, monkeypatch)
    emulator.configure(fault="rknn_run@1=hang")
    jobs = [engine.submit({"x": feeds(CODE, 0)[0]})]
    deadline = time.monotonic() + LONG
    while not emulator.count("rknn_run"):
        assert time.monotonic() < deadline
        time.sleep(0)
    jobs += [engine.submit({"x": feeds(CODE, tag)[0]}) for tag in (1, 2)]
    assert all(word & 1 for word in books.outputs), "nothing has been written yet"
    first, second, third = books.inputs
    assert second == first, "the device has the first job's data"
    assert third != second
    emulator.release_hangs()
    for tag, job in enumerate(jobs):
        check(job.result(LONG), tag)
    assert not any(word & 1 for word in books.outputs)
    del jobs, job
    books.check_that_all_came_back()
    engine.close()


def test_results_that_are_kept_are_not_written_again(emulator: Emulator) -> None:
    engine = engine_of(emulator)
    kept = [engine.submit({"x": feeds(CODE, tag)[0]}).result(LONG) for tag in range(9)]
    assert len({results[0].ctypes.data for results in kept}) == 9
    engine.close()
    for tag, results in enumerate(kept):
        check(results, tag)


@pytest.mark.parametrize("call", ["rknn_inputs_set", "rknn_run", "rknn_outputs_get"])
def test_a_failure_loses_no_block(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    engine = engine_of(emulator)
    books = Books(engine, monkeypatch)
    emulator.configure(fault=";".join(f"{call}@{number}=-1" for number in range(2, 18, 3)))
    books.submit(range(18))
    assert len(books.wrong) == 6
    assert len(books.tables) == 18
    books.check_that_all_came_back()
    engine.close()


@pytest.mark.parametrize("call", ["rknn_inputs_set", "rknn_run", "rknn_outputs_get"])
def test_blocks_of_an_inference_that_hangs_stay_its_own(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    engine = engine_of(emulator, run_timeout_ms=100)
    books = Books(engine, monkeypatch)
    emulator.configure(fault=f"{call}@1=hang")
    with pytest.raises(InferenceTimeout):
        engine.submit({"x": feeds(CODE, 5)[0]}).result(LONG)
    books.submit(range(6))
    emulator.release_hangs()
    books.submit(range(6, 12))
    assert not books.wrong
    engine.close()
    books.check_that_all_came_back()


def test_outputs_that_nobody_wants_take_nothing(emulator: Emulator) -> None:
    engine = engine_of(emulator)
    given = feeds(CODE, 3)
    (z,) = engine.submit({"x": given[0]}, ["z"]).result(LONG)
    np.testing.assert_array_equal(z, MODEL.answer(given)[1])
    (y,) = engine.submit({"x": given[0]}, ["y"]).result(LONG)
    np.testing.assert_array_equal(y, MODEL.answer(given)[0])
    engine.close()


@pytest.mark.parametrize("fallback", [False, True])
def test_inputs_stay_as_long_as_a_fallback_may_need_them(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, fallback: bool
) -> None:
    after = Model((Tensor("y", "float16", MODEL.outputs[0].shape),), (Tensor("w", "float16", (1, 7)),))
    steps = [
        BoundNpuStep("segment", ("x",), ("y", "z"), CODE),
        BoundNpuStep("after", ("y",), ("w",), segment(after)),
    ]
    program = Program.from_steps(steps, npu(emulator), outputs=("w", "z"))
    engine = Engine(program, EngineOptions(), fallback=(lambda *_: []) if fallback else None)
    lanes: Any = engine._manager.lanes
    spends: list[bool] = []
    push = lanes.push

    def seen(task: Task, *, front: bool = False) -> None:
        spends.append(task.spends)
        push(task, front=front)

    monkeypatch.setattr(lanes, "push", seen)
    given = feeds(CODE, 4)
    w, z = engine.submit({"x": given[0]}).result(LONG)
    engine.close()
    y, expected = MODEL.answer(given)
    np.testing.assert_array_equal(z, expected)
    np.testing.assert_array_equal(w, after.answer([y])[0])
    assert spends == [not fallback, True]


def test_no_memory_is_a_failure_of_the_job(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(emulator)
    given = feeds(CODE, 2)
    engine.run({"x": given[0]})
    lanes: Any = engine._manager.lanes
    monkeypatch.setattr(lanes._ios[0]._blocks, "loan", _no_memory)
    with pytest.raises(MemoryError):
        engine.submit({"x": given[0]})
    monkeypatch.undo()
    check(engine.submit({"x": given[0]}).result(LONG), 2)
    emulator.configure(fault="rknn_run@1=-1")
    assert isinstance(engine.submit({"x": given[0]}).exception(LONG), DeviceError)
    engine.close()


def _no_memory(size: int) -> Any:
    raise MemoryError("no memory for an array")
