"""Lanes: contexts, cores, masks, and that nobody waits for another's core."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ort_rknn.errors import DeviceError, InvalidOption
from tests.helpers.engines import LONG, Background, fake, frame, our_threads


def _fill(engine: Any, device: Any, jobs: int, lanes: int) -> None:
    """Submit jobs until every lane has one."""
    for tag in range(jobs):
        engine.submit(frame(tag))
    for tag in range(lanes):
        device.gate(tag).wait_started()


@pytest.mark.parametrize(
    ("options", "masks"),
    [
        ({"schedule": [0, 1, 2], "threads_per_core": 2}, [1, 1, 2, 2, 4, 4]),
        ({"schedule": [0, 0, 1]}, [1, 2]),
        ({"tp_mode": "0,1,2", "threads_per_core": 2}, [7, 7]),
        ({"tp_mode": "auto"}, [0]),
        ({}, [1, 2, 4]),
        ({"performance_hint": "throughput"}, [1, 1, 2, 2, 4, 4]),
    ],
    ids=["EZ-34", "EZ-34 doubles", "EZ-37", "EZ-38 auto", "EZ-38 ours", "throughput"],
)
def test_ez34_ez35_ez37_contexts_and_threads(new_engine, kind: str, options: dict[str, Any], masks: list[int]) -> None:
    device = fake(3)
    engine = new_engine(device, max_queue_size=64, **options)
    for tag in range(20):
        engine.submit(frame(tag))
    started = threading.Event()
    while len(device.calls) < len(masks) and not started.wait(0.001):
        pass
    assert sorted(context.mask for context in device.opened) == masks
    assert len({call.thread_id for call in device.calls}) == len(masks)
    assert len({call.context for call in device.calls}) == len(masks)
    if kind == "thread":
        assert len([name for name in our_threads() if "lane" in name]) == len(masks)
    device.open_all()
    assert engine.wait_all(LONG)
    assert len(device.opened) == len(masks)


def test_ez30_ez32_jobs_go_where_the_schedule_says(new_engine) -> None:
    device = fake(3, gated=False)
    engine = new_engine(device, schedule="0,0,1")
    jobs = [engine.submit(frame(tag)) for tag in range(300)]
    assert engine.wait_all(LONG)
    assert [job.core for job in jobs] == [0, 0, 1] * 100


def test_by_default_each_core_takes_the_next_job_when_free(new_engine) -> None:
    device = fake(3)
    engine = new_engine(device, max_queue_size=64)
    jobs = [engine.submit(frame(tag)) for tag in range(9)]
    slow = device.gate(1).wait_started().core
    for tag in (0, *range(2, 9)):
        device.gate(tag).open()
    for tag in (0, *range(2, 9)):
        jobs[tag].result(LONG)
    assert slow not in {call.core for call in device.calls if call.key not in (1,)}
    device.gate(1).open()


def test_w1_a_stalled_core_stalls_no_other(new_engine) -> None:
    """EZ-W1, with pinned jobs: core 0 hangs, cores 1 and 2 finish all of theirs."""
    device = fake(3)
    engine = new_engine(device, schedule=[0, 1, 2], max_queue_size=64, sequential_callbacks=False)
    jobs = [engine.submit(frame(tag)) for tag in range(30)]
    for tag in range(30):
        if tag % 3:
            device.gate(tag).open()
    for tag in range(30):
        if tag % 3:
            assert jobs[tag].result(LONG)[0][0, 0] == tag
    assert not any(jobs[tag].done() for tag in range(0, 30, 3))


def test_ez42_weights_are_shared_or_not(new_engine) -> None:
    for disable, shared in ((False, [False, True, True]), (True, [False, False, False])):
        device = fake(3)
        engine = new_engine(device, disable_dup_context=disable)
        _fill(engine, device, 3, 3)
        assert [context.share is not None for context in device.opened] == shared
        device.open_all()


def test_a_shared_context_is_closed_after_those_that_share_it(new_engine) -> None:
    device = fake(3)
    engine = new_engine(device)
    _fill(engine, device, 3, 3)
    closed: list[int] = []
    for context in device.opened:
        original = context.close
        context.close = lambda context=context, original=original: (closed.append(context.number), original())
    device.open_all()
    engine.close()
    assert closed.index(0) == 2


def test_ez40_a_core_that_does_not_exist_is_refused_before_anything_opens(new_engine) -> None:
    device = fake(1)
    with pytest.raises(InvalidOption, match="names core 1"):
        new_engine(device, schedule=[0, 1])
    assert device.opened == []


def test_an_error_of_the_first_context_is_the_constructors(new_engine) -> None:
    device = fake(3)
    device.refuse(1)
    with pytest.raises(DeviceError, match="rknn_init failed"):
        new_engine(device)


def test_a_lane_that_cannot_open_leaves_its_task_to_the_others(new_engine, caplog: pytest.LogCaptureFixture) -> None:
    device = fake(3, gated=False)
    device.refuse(2)
    engine = new_engine(device)
    jobs = [engine.submit(frame(tag)) for tag in range(50)]
    assert [job.result(LONG)[0][0, 0] for job in jobs] == list(range(50))
    assert {job.core for job in jobs} <= {0, 2}


def test_a_lane_that_cannot_open_is_named(new_engine, caplog: pytest.LogCaptureFixture) -> None:
    device = fake(2)
    device.refuse(2)
    engine = new_engine(device)
    jobs = [engine.submit(frame(tag)) for tag in range(3)]
    device.gate(0).wait_started()
    device.open_all()
    for job in jobs:
        job.result(LONG)
    [note] = engine.plan().notes
    assert "lane 1 on core 1 is out of service, it cannot be opened: rknn_init failed" in note
    assert "1 core(s) left" in note
    assert note in caplog.text


def test_a_lane_that_cannot_open_for_run(new_engine) -> None:
    device = fake(2)
    device.refuse(2)
    engine = new_engine(device)
    first = Background(lambda: engine.run(frame(0)))
    device.gate(0).wait_started()
    second = Background(lambda: engine.run(frame(1)))
    assert second.blocks(), "it waits for the other core"
    device.open_all()
    assert first.result()[0][0, 0] == 0
    assert second.result()[0][0, 0] == 1


def test_idle_lanes_on_the_least_busy_core_come_first(new_engine) -> None:
    device = fake(3)
    engine = new_engine(device, threads_per_core=2)
    for tag in range(6):
        engine.submit(frame(tag))
        device.gate(tag).wait_started()
    assert [device.gate(tag).wait_started().core for tag in range(6)] == [0, 1, 2, 0, 1, 2]
