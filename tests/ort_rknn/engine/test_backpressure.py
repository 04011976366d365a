"""Programs of several steps: CPU and NPU overlap, values are forgotten, order is kept."""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import Any

import pytest

from ort_rknn.devices.fake import FakeDevice
from ort_rknn.devices.program import Program
from ort_rknn.errors import DeviceError, SubmitTimeout
from tests.helpers.engines import LONG, SHAPE, Background, Calls, cpu_part, fake, frame, npu_part


def sandwich(device: FakeDevice, head: Any = None, tail: Any = None) -> Program:
    """CPU head, NPU, CPU tail; numbers pass through unchanged."""
    return Program.from_steps(
        [
            cpu_part("cpu_0", ["x"], ["a"], head or (lambda values: {"a": values["x"] * 1})),
            npu_part("npu_0", ["a"], ["b"]),
            cpu_part("cpu_1", ["b"], ["y"], tail or (lambda values: {"y": values["b"] * 1})),
        ],
        device,
        outputs=["y"],
    )


def two_segments(device: FakeDevice) -> Program:
    return Program.from_steps(
        [
            npu_part("npu_0", ["x"], ["a"]),
            cpu_part("cpu_0", ["a"], ["b"], lambda values: {"b": values["a"] + 100}),
            npu_part("npu_1", ["b"], ["y"]),
        ],
        device,
        outputs=["y"],
    )


def test_run_goes_through_all_steps_in_the_callers_thread(new_engine) -> None:
    device = fake(2, gated=False)
    model = sandwich(device)
    engine = new_engine(model)
    assert engine.run(frame(4))[0][0, 0] == 4
    here = threading.current_thread().name
    assert [call.thread for call in device.calls] == [here]
    assert [step.session.threads for step in model.steps if step.kind == "cpu"] == [[here], [here]]  # type: ignore[union-attr]


def test_submitted_jobs_go_from_workers_to_lanes_and_back(new_engine) -> None:
    device, calls = fake(2, gated=False), Calls()
    model = sandwich(device)
    engine = new_engine(model)
    for tag in range(50):
        engine.submit(frame(tag), callback=calls, user_data=tag)
    calls.wait(50)
    assert calls.order() == list(range(50))
    assert all(results[0][0, 0] == tag for results, tag, _ in calls.seen)
    names = {name for step in model.steps if step.kind == "cpu" for name in step.session.threads}  # type: ignore[union-attr]
    assert all(name.startswith("ort_rknn cpu") for name in names)


def test_head_of_the_next_and_tail_of_the_last_run_while_the_npu_works(new_engine) -> None:
    """Job 1 is on the NPU; job 2's head and job 0's tail run meanwhile."""
    device = fake(1)
    in_tail, in_head, leave = threading.Event(), threading.Event(), threading.Event()

    def head(values: Any) -> Any:
        if values["x"][0, 0] == 2:
            in_head.set()
            assert leave.wait(LONG)
        return {"a": values["x"] * 1}

    def tail(values: Any) -> Any:
        if values["b"][0, 0] == 0:
            in_tail.set()
            assert leave.wait(LONG)
        return {"y": values["b"] * 1}

    engine = new_engine(sandwich(device, head, tail))
    jobs = [engine.submit(frame(tag)) for tag in range(3)]
    device.gate(0).open()
    device.gate(1).wait_started()
    assert in_tail.wait(LONG)
    assert in_head.wait(LONG)
    assert not any(job.done() for job in jobs)
    leave.set()
    device.open_all()
    assert [job.result(LONG)[0][0, 0] for job in jobs] == [0, 1, 2]


def test_a_job_visits_several_segments(new_engine) -> None:
    device = FakeDevice(3, gated=False)
    engine = new_engine(two_segments(device))
    assert engine.run(frame(1))[0][0, 0] == 101
    jobs = [engine.submit(frame(tag)) for tag in range(30)]
    assert [job.result(LONG)[0][0, 0] for job in jobs] == [100 + tag for tag in range(30)]
    assert {call.segment for call in device.calls} == {"npu_0", "npu_1"}
    assert len(device.opened) in (2, 4, 6), "a lane has a context for each segment"


def test_back_pressure_holds_for_jobs_of_several_steps(new_engine) -> None:
    """Fast heads do not pile jobs up before a slow NPU."""
    device = fake(1)
    engine = new_engine(sandwich(device))
    accepted = 0
    with contextlib.suppress(SubmitTimeout):
        while accepted < 100:
            engine.submit(frame(accepted), timeout=0.1)
            accepted += 1
    assert 4 <= accepted <= 1 + 3 + 2 + 1
    device.open_all()
    assert engine.wait_all(LONG)


def test_errors_of_cpu_steps(new_engine) -> None:
    device, calls = fake(1, gated=False), Calls()

    def head(values: Any) -> Any:
        if values["x"][0, 0] == 1:
            raise ValueError("head")
        return {"a": values["x"] * 1}

    engine = new_engine(sandwich(device, head))
    for tag in range(3):
        engine.submit(frame(tag), callback=calls, user_data=tag)
    calls.wait(3)
    assert [err for _, _, err in calls.seen] == ["", "head", ""]
    with pytest.raises(ValueError, match="head"):
        engine.run(frame(1))


def test_an_error_of_a_segment_ends_the_job_there(new_engine) -> None:
    device = fake(1)
    engine = new_engine(sandwich(device))
    job = engine.submit(frame(0))
    device.gate(0).fail(-1)
    assert isinstance(job.exception(LONG), DeviceError)


def test_a_job_that_waits_for_its_cpu_head_can_be_cancelled(new_engine) -> None:
    device = fake(1, gated=False)
    entered, leave = threading.Semaphore(0), threading.Event()

    def head(values: Any) -> Any:
        entered.release()
        assert leave.wait(LONG)
        return {"a": values["x"] * 1}

    engine = new_engine(sandwich(device, head))
    jobs = [engine.submit(frame(tag)) for tag in range(3)]
    assert entered.acquire(timeout=LONG)
    assert entered.acquire(timeout=LONG)
    assert jobs[2].cancel()
    assert not jobs[0].cancel()
    leave.set()
    assert [job.result(LONG)[0][0, 0] for job in jobs[:2]] == [0, 1]


def test_values_are_freed_when_no_longer_needed(new_engine) -> None:
    device = fake(1)
    kept: list[weakref.ref[Any]] = []

    def head(values: Any) -> Any:
        array = values["x"] * 1
        kept.append(weakref.ref(array))
        return {"a": array}

    def tail(values: Any) -> Any:
        assert kept[0]() is None, "the head's output is still held in the tail"
        return {"y": values["b"] * 1}

    device.open_all()
    engine = new_engine(sandwich(device, head, tail))
    assert engine.submit(frame(0)).result(LONG)
    kept.clear()
    assert engine.run(frame(0))


def test_steps_that_no_wanted_output_needs_are_skipped(new_engine) -> None:
    device = fake(1, gated=False)
    model = Program.from_steps(
        [npu_part("npu_0", ["x"], ["a"]), npu_part("npu_1", ["x"], ["b"])], device, outputs=["a", "b"]
    )
    engine = new_engine(model)
    assert len(engine.run(frame(1), ["b"])) == 1
    assert [call.segment for call in device.calls] == ["npu_1"]


def test_a_program_without_npu_steps(new_engine) -> None:
    model = Program.from_steps([cpu_part("cpu_0", ["x"], ["y"], lambda v: {"y": v["x"] * 2})], None, outputs=["y"])
    engine = new_engine(model)
    assert engine.run(frame(2))[0][0, 0] == 4
    jobs = [engine.submit(frame(tag)) for tag in range(20)]
    assert [job.result(LONG)[0][0, 0] for job in jobs] == [2 * tag for tag in range(20)]
    assert engine.stats().lanes == ()
    assert engine.plan().lanes == ()


def test_run_of_several_steps_while_the_lanes_are_busy(new_engine) -> None:
    device = fake(1)
    engine = new_engine(sandwich(device))
    job = engine.submit(frame(0))
    device.gate(0).wait_started()
    call = Background(lambda: engine.run(frame(5)))
    assert call.blocks()
    device.open_all()
    assert call.result()[0][0, 0] == 5
    assert job.result(LONG)[0].shape == SHAPE


def test_a_core_that_is_behind_blocks_no_jobs_of_the_others(new_engine: Any) -> None:
    device, calls = fake(2), Calls()
    engine = new_engine(device, schedule=(0, 1), threads_per_core=1, max_queue_size=2)
    for tag in range(0, 40, 2):
        device.gate(tag).open()
    submitted = Background(
        lambda: [engine.submit(frame(tag), callback=calls, user_data=tag, timeout=LONG) for tag in range(40)]
    )
    jobs = submitted.result()
    for tag in range(0, 40, 2):
        jobs[tag].result(LONG)
        assert jobs[tag].core == 0
    assert not any(job.done() for job in jobs[1::2])
    assert calls.order() in ([], [0])
    device.open_all()
    calls.wait(40)
    assert calls.order() == list(range(40))
    assert {job.core for job in jobs[1::2]} == {1}


def test_a_queue_is_full_while_every_core_of_the_schedule_has_work(new_engine: Any) -> None:
    device = fake(2)
    engine = new_engine(device, schedule=(0, 1), threads_per_core=1, max_queue_size=2)
    for tag in range(4):
        engine.submit(frame(tag))
    with pytest.raises(SubmitTimeout):
        engine.submit(frame(4), timeout=0)
    device.open_all()
