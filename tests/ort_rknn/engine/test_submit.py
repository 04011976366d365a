"""Submission: room, back-pressure, time-outs, overflow. Rows EZ-01 to EZ-18."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ort_rknn.engine.submission import Submission
from ort_rknn.errors import SubmitTimeout
from tests.helpers.engines import LONG, Background, Calls, fake, frame, program


def test_ez01_submission_does_not_wait_for_the_inference(new_engine) -> None:
    device, calls = fake(1), Calls()
    engine = new_engine(device)
    engine.submit(frame(0), callback=calls)
    device.gate(0).wait_started()
    assert calls.seen == []
    device.gate(0).open()
    [(results, _, err)] = calls.wait(1)
    assert err == ""
    np.testing.assert_array_equal(results[0], frame(0)["x"])
    assert engine.wait_all(LONG)
    assert len(calls.seen) == 1


def test_ez02_inference_and_callbacks_have_threads_of_their_own(new_engine) -> None:
    device, calls = fake(3, gated=False), Calls()
    engine = new_engine(device)
    for tag in range(12):
        engine.submit(frame(tag), callback=calls)
    calls.wait(12)
    inferring = {call.thread_id for call in device.calls}
    assert threading.get_ident() not in inferring | set(calls.threads)
    assert len(set(calls.threads)) == 1
    assert not inferring & set(calls.threads)


@pytest.mark.parametrize("limit", [3, 1, 5])
def test_ez07_task_queue_limit(new_engine, limit: int) -> None:
    device = fake(1)
    engine = new_engine(device, max_queue_size=limit)
    jobs = [engine.submit(frame(tag), timeout=0) for tag in range(1 + limit)]
    with pytest.raises(SubmitTimeout):
        engine.submit(frame(99), timeout=0)
    assert engine.stats().waiting == limit
    device.open_all()
    assert [job.result(LONG)[0][0, 0] for job in jobs] == list(range(1 + limit))


def test_ez08_w8_callback_queue_limit(new_engine) -> None:
    """EZ-08 and EZ-W8: 8 by default, and an option."""
    for limit in (8, 2):
        device = fake(1, gated=False)
        engine = new_engine(device, max_callback_queue_size=limit)
        entered, leave = threading.Event(), threading.Event()

        def slow(results: object, user_data: object, err: str, entered=entered, leave=leave) -> None:
            entered.set()
            assert leave.wait(LONG)

        first = engine.submit(frame(0), callback=slow)
        assert entered.wait(LONG)
        first.result(LONG)
        later = [engine.submit(frame(1 + tag), callback=slow) for tag in range(limit)]
        for job in later:
            job.result(LONG)
        assert engine.stats().undelivered == limit
        blocked = Background(lambda engine=engine, slow=slow: engine.submit(frame(50), callback=slow))
        assert blocked.blocks()
        leave.set()
        assert blocked.result().wait(LONG)


def test_a_job_without_callback_does_not_wait_for_the_callbacks_of_others(new_engine) -> None:
    device = fake(1, gated=False)
    engine = new_engine(device, max_callback_queue_size=1)
    leave = threading.Event()
    jobs = [engine.submit(frame(0), callback=lambda *_: leave.wait(LONG)) for _ in range(2)]
    for job in jobs:
        job.result(LONG)
    assert engine.submit(frame(7), timeout=0).result(LONG)[0][0, 0] == 7
    leave.set()


def test_ez09_back_pressure_ends_with_room(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device)
    for tag in range(4):
        engine.submit(frame(tag))
    blocked = Background(lambda: engine.submit(frame(4)))
    assert blocked.blocks()
    device.gate(0).open()
    job = blocked.result()
    assert not job.done()
    device.open_all()
    assert job.result(LONG)[0][0, 0] == 4


def test_ez09_every_waiting_submitter_gets_its_turn(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device, max_queue_size=1)
    engine.submit(frame(0))
    engine.submit(frame(1))
    waiting = [Background(lambda tag=tag: engine.submit(frame(tag))) for tag in range(2, 8)]
    assert all(call.blocks() for call in waiting)
    device.open_all()
    assert sorted(call.result().result(LONG)[0][0, 0] for call in waiting) == list(range(2, 8))


def test_ez10_submit_timeout(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device, submit_timeout_ms=50)
    jobs = [engine.submit(frame(tag)) for tag in range(4)]
    with pytest.raises(SubmitTimeout, match=r"no room for another job within 0\.05 s: 3 wait for a core") as caught:
        engine.submit(frame(4))
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, TimeoutError)
    assert engine.stats().accepted == 4
    device.open_all()
    for job in jobs:
        job.result(LONG)
    assert len(device.calls) == 4
    assert engine.submit(frame(5)).job_id == 4, "a refused submission uses up no number"


def test_ez11_the_stages_can_be_watched(new_engine) -> None:
    device = fake(2)
    engine = new_engine(device)
    entered, leave = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        entered.set()
        assert leave.wait(LONG)

    jobs = [engine.submit(frame(tag), callback=slow) for tag in range(5)]
    stats = engine.stats()
    assert (stats.accepted, stats.waiting, stats.completed) == (5, 3, 0)
    assert [lane.state for lane in stats.lanes] == ["busy", "busy"]
    device.gate(0).open()
    assert entered.wait(LONG)
    device.gate(1).open()
    device.gate(2).open()
    device.gate(4).wait_started()
    assert all(job.wait(LONG) for job in jobs[:3])
    stats = engine.stats()
    assert (stats.waiting, stats.completed, stats.undelivered) == (0, 3, 2)
    leave.set()


@pytest.mark.parametrize(
    ("names", "expected"), [(None, ["y", "k"]), ([], ["y", "k"]), (["k"], ["k"]), (["k", "y"], ["k", "y"])]
)
def test_ez16_output_names_filter_and_order(new_engine, names: list[str] | None, expected: list[str]) -> None:
    device = fake(1, gated=False)
    engine = new_engine(program(device, ["x", "z"], ["y", "k"]))
    feed = frame(1) | {"z": frame(2)["x"]}
    values = {"y": 1, "k": 2}
    for results in (engine.submit(feed, names).result(LONG), engine.run(feed, names)):
        assert [int(array[0, 0]) for array in results] == [values[name] for name in expected]


def test_ez18_inputs_are_copied(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device)
    feed = frame(3)
    job = engine.submit(feed)
    feed["x"][:] = 9
    device.gate(3).open()
    assert job.result(LONG)[0][0, 0] == 3


def test_inputs_are_shared_on_request(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device)
    engine.submit(frame(0))
    feed = frame(3)
    job = engine.submit(feed, copy=False)
    feed["x"][:] = 9
    device.open_all()
    assert job.result(LONG)[0][0, 0] == 9


def test_va08_refusal_when_all_slots_are_busy(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device, overflow="raise")
    for tag in range(4):
        engine.submit(frame(tag))
    with pytest.raises(SubmitTimeout):
        engine.submit(frame(4))


def test_overflow_drop_oldest_cancels_the_job_that_waits_longest(new_engine) -> None:
    device, calls = fake(1), Calls()
    engine = new_engine(device, overflow="drop_oldest", max_queue_size=2)
    jobs = [engine.submit(frame(tag), callback=calls, user_data=tag) for tag in range(5)]
    assert [job.cancelled() for job in jobs] == [False, True, True, False, False]
    device.open_all()
    calls.wait(5)
    assert calls.order() == [0, 1, 2, 3, 4]
    assert [err for _, _, err in calls.seen] == [
        "",
        *["the job was not run: it was dropped to make room for a newer one"] * 2,
        "",
        "",
    ]
    assert [results for results, _, _ in calls.seen[1:3]] == [[], []]
    assert engine.stats().dropped == 2


def test_an_awaited_job_is_refused_as_any_other(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device, overflow="raise", max_queue_size=2)
    jobs = [engine.accept(Submission(None, frame(tag), parked=True, awaited=True)) for tag in range(3)]
    with pytest.raises(SubmitTimeout):
        engine.accept(Submission(None, frame(3), parked=True, awaited=True))
    assert not engine.submit_parked(frame(4)).done()  # what must not be refused is not
    device.open_all()
    assert [job.result(LONG)[0][0, 0] for job in jobs] == [0, 1, 2]


def test_an_awaited_job_drops_the_oldest(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device, overflow="drop_oldest", max_queue_size=2)
    jobs = [engine.accept(Submission(None, frame(tag), parked=True, awaited=True)) for tag in range(5)]
    assert [job.cancelled() for job in jobs] == [False, True, True, False, False]
    device.open_all()


def test_w5_the_limit_holds_against_many_producers_and_numbers_stay_in_order(new_engine) -> None:
    """EZ-W5: eight threads, a thousand jobs."""
    device = fake(3, gated=False)
    engine = new_engine(device, schedule=[0, 1, 2], submit_timeout_ms=60_000)
    depths: list[int] = []

    def produce(start: int) -> list[int]:
        ids = []
        for tag in range(start, start + 125):
            ids.append(engine.submit(frame(tag)).job_id)
            depths.append(engine.stats().waiting)
        return ids

    producers = [Background(lambda start=start: produce(start)) for start in range(0, 1000, 125)]
    ids = [job_id for producer in producers for job_id in producer.result()]
    assert engine.wait_all(LONG)
    assert sorted(ids) == list(range(1000))
    assert max(depths) <= 3
    assert engine.stats().most_waiting <= 3
    number = dict(zip([tag for start in range(0, 1000, 125) for tag in range(start, start + 125)], ids, strict=True))
    for core in range(3):
        executed = [number[call.key] for call in device.calls if call.core == core]
        assert executed == sorted(executed)
        assert {job_id % 3 for job_id in executed} == {core}
