"""Native lanes on the npu device and the emulated runtime: results, order, faults, hangs, and nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from ort_rknn.devices.program import BoundNpuStep, Program
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import DeviceError, DeviceUnavailable, InferenceTimeout, RknnError
from tests.helpers.emulated_npu import build_native, feeds, npu, segment
from tests.helpers.emulator import Emulator, Model, Tensor
from tests.helpers.engines import LONG, Calls, our_threads

MODEL = Model(
    (Tensor("x", "float16", (1, 3, 8, 8), "nhwc"), Tensor("n", "int64", (2,))),
    (Tensor("y", "float16", (1, 10)), Tensor("k", "int64", (4,))),
)
CODE = segment(MODEL)
New = Callable[..., Engine]


def feed(tag: int) -> dict[str, Any]:
    return dict(zip(("x", "n"), feeds(CODE, tag), strict=True))


def right(tag: int) -> list[np.ndarray]:
    given = feeds(CODE, tag)
    return [MODEL.answer(given)[0], MODEL.answer(given, native=True)[1]]


def check(results: list[Any], tag: int) -> None:
    for got, expected in zip(results, right(tag), strict=True):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(got, expected)


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setenv("ORT_RKNN_NATIVE_LIBRARY", str(build_native()))
    with Emulator().watched() as emulator:
        yield emulator


@pytest.fixture
def new_engine(emulator: Emulator) -> Iterator[New]:
    made: list[Engine] = []

    def make(*, device: dict[str, Any] | None = None, fallback: Any = None, **options: Any) -> Engine:
        if "schedule" in options:  # one context per core, so that a test knows which job is where
            options.setdefault("threads_per_core", 1)
        part = BoundNpuStep("segment", ("x", "n"), ("y", "k"), CODE)
        program = Program.from_steps([part], npu(emulator, **(device or {})), outputs=("y", "k"))
        engine = Engine(program, EngineOptions(**options), fallback=fallback)
        made.append(engine)
        return engine

    yield make
    emulator.release_hangs()
    for engine in made:
        engine.close()
    made.clear()
    assert our_threads() == []


def test_the_engine_chooses_native_lanes(new_engine: New, emulator: Emulator) -> None:
    engine = new_engine()
    assert engine._manager.lanes is not None
    assert engine._manager.lanes.kind == "native"
    assert new_engine(device={"native": False})._manager.lanes.kind == "thread"
    assert len(engine.plan().lanes) == 6
    assert len(new_engine(schedule=(0, 1, 2)).plan().lanes) == 3
    assert len(new_engine(schedule=(0, 1), threads_per_core=None).plan().lanes) == 4
    assert emulator.count("contexts") == 4, "only the first lane of each engine is open"


def test_run(new_engine: New, emulator: Emulator) -> None:
    engine = new_engine()
    for tag in range(5):
        check(engine.run(feed(tag)), tag)
        np.testing.assert_array_equal(engine.run(feed(tag), ["k"])[0], right(tag)[1])
    assert emulator.count("rknn_init") == 1
    assert emulator.count("rknn_dup_context") == 0


@pytest.mark.parametrize("options", [{}, {"schedule": (0, 1, 2)}, {"schedule": (0, 0, 1)}, {"tp_mode": "auto"}])
def test_every_job_gets_its_own_result_in_order(new_engine: New, emulator: Emulator, options: dict[str, Any]) -> None:
    emulator.configure(pattern="300,50,1500,10,700")
    engine, calls = new_engine(**options), Calls()
    for tag in range(60):
        engine.submit(feed(tag), callback=calls, user_data=tag)
    for tag, (results, user_data, err) in enumerate(calls.wait(60)):
        assert (user_data, err) == (tag, "")
        check(results, tag)
    assert engine.stats().completed == 60


def test_many_threads(new_engine: New, emulator: Emulator) -> None:
    emulator.configure(pattern="10,200,50")
    engine = new_engine()
    failures: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for tag in range(first, first + 15):
                check(engine.run(feed(tag)), tag) if tag % 2 else check(engine.submit(feed(tag)).result(LONG), tag)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_inputs_may_be_overwritten_after_submit(new_engine: New, emulator: Emulator) -> None:
    emulator.configure(latency_us=3000)
    engine = new_engine(schedule=(0,), max_queue_size=8)
    jobs = []
    for tag in range(6):
        given = feed(tag)
        jobs.append(engine.submit(given))
        for array in given.values():
            array[...] = 0
    for tag, job in enumerate(jobs):
        check(job.result(LONG), tag)


def test_weights_are_loaded_once(new_engine: New, emulator: Emulator) -> None:
    emulator.configure(latency_us=2000)
    engine = new_engine(schedule=(0, 1, 2))
    for job in [engine.submit(feed(tag)) for tag in range(12)]:
        job.result(LONG)
    assert (emulator.count("rknn_init"), emulator.count("rknn_dup_context")) == (1, 2)
    assert all(emulator.count(f"core{core}_runs") for core in range(3))


def test_no_duplicates_when_so_asked(new_engine: New, emulator: Emulator) -> None:
    emulator.configure(latency_us=2000)
    engine = new_engine(schedule=(0, 1, 2), disable_dup_context=True)
    for job in [engine.submit(feed(tag)) for tag in range(12)]:
        job.result(LONG)
    assert (emulator.count("rknn_init"), emulator.count("rknn_dup_context")) == (3, 0)


@pytest.mark.parametrize("call", ["rknn_inputs_set", "rknn_run", "rknn_outputs_get"])
def test_a_failure_is_its_own_job_s(new_engine: New, emulator: Emulator, call: str) -> None:
    engine = new_engine(schedule=(0,))
    emulator.configure(fault=f"{call}@3=-2;{call}@7=-1")
    jobs = [engine.submit(feed(tag)) for tag in range(10)]
    for tag, job in enumerate(jobs):
        if tag in (2, 6):
            error = job.exception(LONG)
            assert isinstance(error, DeviceError)
            assert error.call == call
            assert error.code == (-2 if tag == 2 else -1)
        else:
            check(job.result(LONG), tag)
    emulator.configure(fault=f"{call}@1=-1")
    with pytest.raises(DeviceError):
        engine.run(feed(0))
    check(engine.run(feed(1)), 1)


def test_a_hang_ends_as_that_job_s_error(new_engine: New, emulator: Emulator) -> None:
    engine = new_engine(schedule=(0, 1), run_timeout_ms=150)
    check(engine.run(feed(0)), 0)
    emulator.configure(fault="rknn_run@1=hang")
    jobs = [engine.submit(feed(tag)) for tag in range(1, 8)]
    errors = [job.exception(LONG) for job in jobs]
    [hung] = [error for error in errors if error is not None]
    assert isinstance(hung, InferenceTimeout)
    assert "150 ms" in str(hung)
    for tag, job in enumerate(jobs, 1):
        if errors[tag - 1] is None:
            check(job.result(), tag)
    emulator.release_hangs()
    check(engine.submit(feed(9)).result(LONG), 9)


def test_a_core_that_fails_is_taken_out_of_service(new_engine: New, emulator: Emulator, caplog: Any) -> None:
    emulator.configure(cores=2)  # the device is taken for one with three cores
    emulator.errors_are_meant = True
    engine = new_engine(schedule=(0, 1, 2))
    emulator.configure(latency_us=20_000)
    for tag, job in enumerate([engine.submit(feed(tag)) for tag in range(12)]):
        check(job.result(LONG), tag)
    assert any("core 2" in note for note in engine.plan().notes)
    assert "core 2" in caplog.text


def test_all_cores_gone(new_engine: New, emulator: Emulator) -> None:
    engine = new_engine(schedule=(0, 1))
    emulator.configure(fault="rknn_run@1x*=-1")
    errors = [engine.submit(feed(tag)).exception(LONG) for tag in range(12)]
    assert all(isinstance(error, DeviceError | DeviceUnavailable) for error in errors)
    with pytest.raises(DeviceUnavailable, match="every NPU core is out of service"):
        engine.run(feed(0))
    emulator.configure(fault="rknn_run@1x*=0")


def test_all_cores_gone_with_fallback(new_engine: New, emulator: Emulator) -> None:
    engine = new_engine(schedule=(0,), fallback=lambda given, names, options: ["fallback"])
    emulator.configure(fault="rknn_run@1x*=-1")
    results = [job for job in (engine.submit(feed(tag)) for tag in range(6)) if job.exception(LONG) is None]
    assert [job.result() for job in results] == [["fallback"]] * 3


def test_cancel_and_close(new_engine: New, emulator: Emulator) -> None:
    emulator.configure(latency_us=200_000)
    engine = new_engine(schedule=(0,), max_queue_size=8)
    jobs = [engine.submit(feed(tag)) for tag in range(6)]
    assert jobs[0].running()
    assert not jobs[5].running()
    assert jobs[5].cancel()
    assert not jobs[0].cancel()
    engine.close(cancel_jobs=True)
    assert all(job.done() for job in jobs)
    check(jobs[0].result(), 0)
    assert emulator.count("rknn_run") <= 3


def test_dropped_without_close(new_engine: New, emulator: Emulator) -> None:
    part = BoundNpuStep("segment", ("x", "n"), ("y", "k"), CODE)
    for _ in range(20):
        program = Program.from_steps([part], npu(emulator), outputs=("y", "k"))
        engine = Engine(program, EngineOptions())
        jobs = [engine.submit(feed(tag)) for tag in range(4)]
        del engine
        for tag, job in enumerate(jobs):
            check(job.result(LONG), tag)
    pause, deadline = threading.Event(), time.monotonic() + LONG
    while our_threads() and time.monotonic() < deadline:
        pause.wait(0.01)
    assert our_threads() == []


def test_a_picture_is_turned_while_it_is_copied(emulator: Emulator) -> None:
    model = Model((Tensor("n", "int64", (2,)), Tensor("x", "float16", (2, 3, 5, 7), "nhwc")), MODEL.outputs)
    code = segment(model)
    program = Program.from_steps(
        [BoundNpuStep("segment", ("n", "x"), ("y", "k"), code)], npu(emulator), outputs=("y", "k")
    )
    engine = Engine(program)
    lanes = engine._manager.lanes
    assert lanes is not None
    given = feeds(code)
    copies = [lanes.shown(0, place, lanes.own(0, place, array)) for place, array in enumerate(given)]
    for copy, array in zip(copies, given, strict=True):
        np.testing.assert_array_equal(copy, array.astype(copy.dtype))
        assert not np.shares_memory(copy, array)
    assert copies[0].flags.c_contiguous
    assert copies[1].transpose(0, 2, 3, 1).flags.c_contiguous
    jobs = []
    for tag in range(8):
        values = dict(zip(("n", "x"), feeds(code, tag), strict=True))
        jobs.append(engine.submit(values))
        values["x"][...] = 0
    for tag, job in enumerate(jobs):
        np.testing.assert_array_equal(job.result(LONG)[0], model.answer(feeds(code, tag))[0])
    engine.close()


def test_a_fallback_gets_what_the_caller_gave(emulator: Emulator) -> None:
    model = Model((Tensor("x", "float16", (2, 3, 5, 7), "nhwc"),), MODEL.outputs)
    code = segment(model)
    program = Program.from_steps([BoundNpuStep("segment", ("x",), ("y", "k"), code)], npu(emulator), outputs=("y", "k"))
    seen: list[Any] = []

    def fallback(values: Mapping[str, Any], names: Sequence[str], options: Any) -> list[Any]:
        seen.append(values["x"])
        return [values["x"]] * len(names)

    engine = Engine(program, EngineOptions(schedule=(0,)), fallback=fallback)
    emulator.configure(fault="rknn_run@1x*=-1")
    (given,) = feeds(code)
    for _ in range(3):
        assert isinstance(engine.submit({"x": given}).exception(LONG), DeviceError)
    engine.submit({"x": given}).result(LONG)
    engine.close()
    assert seen[0].dtype == np.float32
    np.testing.assert_array_equal(seen[0], given.astype(np.float16))


def test_a_session_is_closed_while_an_inference_hangs(emulator: Emulator) -> None:
    device = npu(emulator)
    part = BoundNpuStep("segment", ("x", "n"), ("y", "k"), CODE)
    program = Program.from_steps([part], device, outputs=("y", "k"))
    before = emulator.count("contexts")
    engine = Engine(program, EngineOptions(run_timeout_ms=50), on_closed=device.close)
    emulator.configure(fault="rknn_run@1=hang")
    with pytest.raises(InferenceTimeout):
        engine.run(feed(0))
    check(engine.run(feed(1)), 1)
    engine.close()
    assert emulator.count("contexts") == before + 1, "only the one that hangs"
    emulator.release_hangs()
    pause, deadline = threading.Event(), time.monotonic() + LONG
    while our_threads() and time.monotonic() < deadline:
        pause.wait(0.01)
    assert our_threads() == []
    assert emulator.count("contexts") == before


def test_the_last_lane_cannot_be_opened_for_its_task(new_engine: New, emulator: Emulator) -> None:
    engine = new_engine(schedule=(0, 1))
    emulator.configure(fault="rknn_run@1x*=-1;rknn_dup_context@1x*=-4;rknn_init@1x*=-4")
    for tag in range(8):
        with pytest.raises(RknnError):
            engine.submit(feed(tag)).result(LONG)
    engine.close()
    assert our_threads() == []
