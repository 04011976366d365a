"""Inferences that fail or hang, cores that die."""

from __future__ import annotations

import numpy as np
import pytest

from ort_rknn.engine.lanes.base import FAILURES_IN_A_ROW, NoCoreLeft
from ort_rknn.errors import DeviceError, DeviceUnavailable, InferenceTimeout
from tests.helpers.engines import LONG, Background, Calls, fake, frame


def test_a_failing_inference_costs_one_job_and_its_context(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device, max_queue_size=8)
    jobs = [engine.submit(frame(tag)) for tag in range(3)]
    device.gate(1).fail(-1)
    device.open_all()
    assert jobs[0].result(LONG)
    assert isinstance(jobs[1].exception(LONG), DeviceError)
    assert jobs[2].result(LONG)
    assert [context.closed for context in device.opened] == [True, False]


def test_any_other_error_is_the_jobs_alone(new_engine, kind: str) -> None:
    device = fake(1)
    engine = new_engine(device, max_queue_size=8)
    jobs = [engine.submit(frame(tag)) for tag in range(5)]
    for tag in range(4):
        device.gate(tag).fail(KeyError("a bug in a device") if tag else SystemExit("worse"))
    device.open_all()
    assert isinstance(jobs[0].exception(LONG), SystemExit)
    assert isinstance(jobs[3].exception(LONG), KeyError)
    assert jobs[4].result(LONG)
    assert len(device.opened) == (1 if kind == "thread" else 5)  # native code knows codes only: all spoil a context
    assert engine.plan().notes == ()


def test_failures_in_a_row_take_a_core_out_of_service(new_engine, caplog: pytest.LogCaptureFixture) -> None:
    device = fake(2)
    engine = new_engine(device, schedule=[0, 1], max_queue_size=64)
    jobs = [engine.submit(frame(tag)) for tag in range(12)]
    for tag in range(0, 2 * FAILURES_IN_A_ROW, 2):
        device.gate(tag).fail(-2)
    device.open_all()
    for job in jobs:
        job.wait(LONG)
    failed = [tag for tag, job in enumerate(jobs) if job.exception() is not None]
    assert failed == [0, 2, 4]
    assert {job.core for job in jobs[6:]} == {1}, "core 0's jobs went to core 1"
    [note] = engine.plan().notes
    assert note.startswith("core 0 is out of service after 3 failures in a row, the last: rknn_run failed")
    assert caplog.messages == [note]
    assert {lane.core: lane.state for lane in engine.stats().lanes}[0] == "gone"


def test_a_success_in_between_forgives(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device, max_queue_size=64)
    jobs = [engine.submit(frame(tag)) for tag in range(10)]
    for tag in (0, 1, 3, 4, 6, 7):
        device.gate(tag).fail(-1)
    device.open_all()
    for job in jobs:
        job.wait(LONG)
    assert [tag for tag, job in enumerate(jobs) if job.exception() is None] == [2, 5, 8, 9]
    assert engine.plan().notes == ()


def test_a_run_that_succeeds_forgives_too(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device)
    for tag in range(3 * FAILURES_IN_A_ROW):
        if tag % FAILURES_IN_A_ROW:
            device.gate(tag).fail(-1)
        else:
            device.gate(tag).open()
    for tag in range(3 * FAILURES_IN_A_ROW):
        if tag % FAILURES_IN_A_ROW:
            with pytest.raises(DeviceError):
                engine.run(frame(tag))
        else:
            assert engine.run(frame(tag))[0][0, 0] == tag
    (lane,) = engine.stats().lanes
    assert (lane.tasks, lane.failures) == (3, 3 * FAILURES_IN_A_ROW - 3)
    assert engine.plan().notes == ()


def test_without_cores_everything_ends_as_an_error(new_engine) -> None:
    device, calls = fake(1), Calls()
    engine = new_engine(device, max_queue_size=64)
    jobs = [engine.submit(frame(tag), callback=calls, user_data=tag) for tag in range(6)]
    for tag in range(FAILURES_IN_A_ROW):
        device.gate(tag).fail(-1)
    calls.wait(6)
    assert calls.order() == list(range(6))
    assert [type(job.exception(LONG)) for job in jobs] == [DeviceError] * 3 + [NoCoreLeft] * 3
    with pytest.raises(DeviceUnavailable, match="every NPU core is out of service; the last failure was: rknn_run"):
        engine.run(frame(9))
    assert isinstance(engine.submit(frame(9)).exception(LONG), NoCoreLeft)


def test_without_cores_the_fallback_serves(new_engine) -> None:
    device, calls = fake(1), Calls()
    engine = new_engine(
        device, max_queue_size=64, fallback=lambda feed, names, run_options: [feed["x"] + 0.5, list(names)]
    )
    jobs = [engine.submit(frame(tag), callback=calls, user_data=tag) for tag in range(6)]
    for tag in range(FAILURES_IN_A_ROW):
        device.gate(tag).fail(-1)
    calls.wait(6)
    np.testing.assert_array_equal(jobs[5].result(LONG)[0], frame(5)["x"] + 0.5)
    assert jobs[5].result()[1] == ["y"]
    assert engine.run(frame(7))[0][0, 0] == 7.5
    assert engine.submit(frame(8)).result(LONG)[0][0, 0] == 8.5
    assert calls.order() == list(range(6))


def test_a_failing_fallback_is_the_jobs_error(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device, fallback=lambda *_: 1 / 0)
    for tag in range(FAILURES_IN_A_ROW):
        device.gate(tag).fail(-1)
        with pytest.raises(DeviceError):
            engine.run(frame(tag))
    assert isinstance(engine.submit(frame(5)).exception(LONG), ZeroDivisionError)


def test_a_hanging_inference_ends_at_its_limit_and_the_lane_goes_on(new_engine) -> None:
    device, calls = fake(1), Calls()
    engine = new_engine(device, run_timeout_ms=60, max_queue_size=8)
    for tag in (1, 2):
        device.gate(tag).open()
    jobs = [engine.submit(frame(tag), callback=calls, user_data=tag) for tag in range(3)]
    error = jobs[0].exception(LONG)
    assert isinstance(error, InferenceTimeout)
    assert isinstance(error, TimeoutError)
    assert "longer than 60 ms (run_timeout_ms) on core 0" in str(error)
    assert [job.result(LONG)[0][0, 0] for job in jobs[1:]] == [1, 2]
    calls.wait(3)
    assert calls.order() == [0, 1, 2]
    assert len(device.opened) == 2
    assert not device.opened[0].closed, "left to the thread that hangs in it"
    assert engine.stats().lanes[0].failures == 1


def test_a_late_answer_is_dropped_and_its_context_closed(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device, run_timeout_ms=60)
    job = engine.submit(frame(0))
    assert isinstance(job.exception(LONG), InferenceTimeout)
    device.gate(1).open()
    assert engine.submit(frame(1)).result(LONG)
    device.gate(0).open()
    assert isinstance(job.exception(), InferenceTimeout)
    engine.close()


def test_run_is_freed_at_the_limit(new_engine) -> None:
    device = fake(2)
    engine = new_engine(device, run_timeout_ms=60)
    call = Background(lambda: engine.run(frame(0)))
    with pytest.raises(InferenceTimeout):
        call.result()
    device.gate(1).open()
    assert engine.run(frame(1))[0][0, 0] == 1


def test_hangs_take_the_core_out_of_service(new_engine) -> None:
    device = fake(2)
    engine = new_engine(device, run_timeout_ms=60, schedule=[0, 1], max_queue_size=64)
    for tag in range(20):
        if tag % 2 or tag >= 2 * FAILURES_IN_A_ROW:
            device.gate(tag).open()
    jobs = [engine.submit(frame(tag)) for tag in range(20)]
    for job in jobs:
        job.wait(LONG)
    assert [tag for tag, job in enumerate(jobs) if job.exception() is not None] == [0, 2, 4]
    assert "core 0 is out of service" in engine.plan().notes[0]


def test_closing_while_an_inference_hangs(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device, run_timeout_ms=60)
    job = engine.submit(frame(0))
    Background(lambda: engine.close()).result()
    assert isinstance(job.exception(0), InferenceTimeout)
