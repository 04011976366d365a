"""Delivery: order, errors, user code that raises, blocks or comes back."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from ort_rknn.engine.callbacks import Delivery
from tests.helpers.engines import LONG, Background, Calls, fake, frame, program


def test_ez04_callback_arguments(new_engine) -> None:
    device, calls, token = fake(1, gated=False), Calls(), object()
    engine = new_engine(program(device, ["x"], ["y", "k"]))
    engine.submit(frame(5), callback=calls, user_data=token)
    [(results, user_data, err)] = calls.wait(1)
    assert isinstance(results, list)
    assert [type(array) for array in results] == [np.ndarray, np.ndarray]
    assert user_data is token
    assert err == ""


def test_ez05_ez14_a_failure_keeps_its_place_and_harms_nobody(new_engine) -> None:
    device, calls = fake(3), Calls()
    engine = new_engine(device)
    for tag in range(3):
        engine.submit(frame(tag), callback=calls, user_data=tag)
    device.gate(2).open()
    device.gate(1).fail(-2)
    device.gate(0).open()
    seen = calls.wait(3)
    assert calls.order() == [0, 1, 2]
    assert [err for _, _, err in seen][::2] == ["", ""]
    assert seen[1][0] == []
    assert "RKNN_ERR_TIMEOUT" in seen[1][2]


@pytest.mark.parametrize(("ordered", "expected"), [(True, [0, 1, 2]), (False, [2, 1, 0])], ids=["EZ-12", "EZ-13"])
def test_ez12_ez13_order_of_callbacks(new_engine, ordered: bool, expected: list[int]) -> None:
    device, calls = fake(3), Calls()
    engine = new_engine(device, sequential_callbacks=ordered)
    jobs = [engine.submit(frame(tag), callback=calls, user_data=tag) for tag in range(3)]
    for count, tag in enumerate((2, 1, 0), 1):
        device.gate(tag).open()
        jobs[tag].result(LONG)
        if not ordered:
            calls.wait(count)
    calls.wait(3)
    assert calls.order() == expected


def test_ez12_order_holds_for_many(new_engine) -> None:
    device, calls = fake(3, gated=False), Calls()
    engine = new_engine(device, threads_per_core=2)
    for tag in range(500):
        engine.submit(frame(tag), callback=calls, user_data=tag)
    calls.wait(500)
    assert calls.order() == list(range(500))
    assert all(results[0][0, 0] == tag for results, tag, _ in calls.seen)


def test_ez19_a_raising_callback_is_reported_and_loses_nothing(new_engine, monkeypatch: pytest.MonkeyPatch) -> None:
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: reported.append(str(info.exc_value)))
    device, calls = fake(1, gated=False), Calls()
    engine = new_engine(device)

    def raising(*_: object) -> None:
        raise SystemExit("from a callback")

    engine.submit(frame(0), callback=raising)
    engine.submit(frame(1), callback=calls, user_data=1)
    calls.wait(1)
    assert calls.order() == [1]
    assert reported == ["from a callback"]
    assert engine.wait_all(LONG)


@pytest.mark.parametrize(("every", "told"), [(False, ["1", "2"]), (True, ["0", "1", "2", "3"])])
def test_who_waits_for_space_is_told_where_callbacks_were_too_many(every: bool, told: list[str]) -> None:
    seen: list[str] = []
    now = ["0"]
    delivery = Delivery(ordered=True, limit=2, on_started=lambda: seen.append(now[0]), every=every)
    entered, leave, ended = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        entered.set()
        assert leave.wait(LONG)
        now[0] = "1"

    for job_id in range(4):
        delivery.expect(job_id)
    delivery.post(0, first, lambda: None)
    assert entered.wait(LONG)
    assert seen == ["0"] * every, "nothing waited beside it"
    delivery.post(1, lambda: now.__setitem__(0, "2"), lambda: None)
    delivery.post(2, lambda: now.__setitem__(0, "3"), lambda: None)
    delivery.post(3, ended.set, lambda: None)
    assert delivery.saturated
    assert (delivery.undelivered, delivery.ready) == (3, 3)
    leave.set()
    assert ended.wait(LONG)
    assert seen == told
    assert delivery.undelivered == 0
    delivery.stop()
    delivery.join(LONG)


def test_a_submitter_is_let_in_when_a_callback_begins(new_engine) -> None:
    device, calls, leave = fake(1, gated=False), Calls(), threading.Event()
    engine = new_engine(device, max_callback_queue_size=1, max_queue_size=8)
    entered = threading.Semaphore(0)

    def callback(*arguments: object) -> None:
        entered.release()
        assert leave.wait(LONG)
        calls(*arguments)  # type: ignore[arg-type]

    engine.submit(frame(0), callback=callback)
    assert entered.acquire(timeout=LONG)
    engine.submit(frame(1), callback=callback).result(LONG)
    late = Background(lambda: engine.submit(frame(2), callback=callback, timeout=LONG))
    assert late.blocks(), "one callback waits, and no more may"
    leave.set()
    late.result()
    calls.wait(3)


def test_callbacks_are_never_concurrent(new_engine) -> None:
    device = fake(3, gated=False)
    engine = new_engine(device, sequential_callbacks=False)
    inside = threading.Lock()
    clashes, done = [], Calls()

    def callback(*arguments: object) -> None:
        if not inside.acquire(blocking=False):
            clashes.append(arguments)
        else:
            inside.release()
        done(*arguments)  # type: ignore[arg-type]

    for tag in range(200):
        engine.submit(frame(tag), callback=callback)
    done.wait(200)
    assert clashes == []


def test_w2_run_inside_a_callback(new_engine) -> None:
    """EZ-W2: it waits on itself for ever there."""
    device, calls = fake(1, gated=False), Calls()
    engine = new_engine(device)
    engine.submit(
        frame(0), callback=lambda results, user_data, err: calls(engine.run(frame(7)), user_data, err), user_data=None
    )
    [(results, _, _)] = calls.wait(1)
    assert results[0][0, 0] == 7


def test_w2_submit_and_result_inside_a_callback(new_engine) -> None:
    device, calls = fake(1, gated=False), Calls()
    engine = new_engine(device)
    engine.submit(frame(0), callback=lambda *_: calls(engine.submit(frame(8)).result(LONG), None, ""))
    assert calls.wait(1)[0][0][0][0, 0] == 8


def test_a_chain_of_callbacks_does_not_wait_for_itself(new_engine) -> None:
    """The delivery thread may submit although the callback queue is full: only it can empty it."""
    device, calls = fake(1, gated=False), Calls()
    engine = new_engine(device, max_callback_queue_size=1, max_queue_size=2)

    def chain(results: list[object], left: int, err: str) -> None:
        if left:
            engine.submit(frame(left), callback=chain, user_data=left - 1)
            engine.submit(frame(left), callback=calls)
        calls(results, left, err)

    engine.submit(frame(0), callback=chain, user_data=10)
    calls.wait(21)
    assert engine.wait_all(LONG)


def test_a_slow_core_delays_delivery_but_not_execution(new_engine) -> None:
    """Invariant 4."""
    device, calls = fake(2), Calls()
    engine = new_engine(device)
    slow = engine.submit(frame(0), callback=calls, user_data=0)
    device.gate(0).wait_started()
    for tag in range(1, 5):
        job = engine.submit(frame(tag), callback=calls, user_data=tag)
        device.gate(tag).open()
        job.result(LONG)
    assert calls.seen == []
    assert not slow.done()
    device.gate(0).open()
    calls.wait(5)
    assert calls.order() == [0, 1, 2, 3, 4]


def test_done_callbacks_run_on_the_delivery_thread(new_engine) -> None:
    """No core waits for them. VA-04."""
    device = fake(1)
    engine = new_engine(device)
    job = engine.submit(frame(0))
    seen: list[object] = []
    ended = threading.Event()

    def done(future: object) -> None:
        seen.append((future, threading.current_thread().name))
        ended.set()

    job.add_done_callback(done)
    device.gate(0).open()
    assert ended.wait(LONG)
    assert seen == [(job, "ort_rknn delivery")]
    job.add_done_callback(done)
    assert seen[1] == (job, threading.current_thread().name), "at once when the job has ended"


def test_a_raising_done_callback_is_logged_as_concurrent_futures_does(
    new_engine, caplog: pytest.LogCaptureFixture
) -> None:
    device = fake(1)
    engine = new_engine(device)
    job = engine.submit(frame(0))
    ended = threading.Event()
    job.add_done_callback(lambda _: 1 / 0)
    job.add_done_callback(lambda _: ended.set())
    device.gate(0).open()
    assert ended.wait(LONG)
    assert "exception calling the done callback" in caplog.text


def test_wait_all_waits_for_callbacks(new_engine) -> None:
    device = fake(1, gated=False)
    engine = new_engine(device)
    leave = threading.Event()
    engine.submit(frame(0), callback=lambda *_: leave.wait(LONG)).result(LONG)
    assert not engine.wait_all(0)
    waiting = Background(engine.wait_all)
    assert waiting.blocks()
    leave.set()
    assert waiting.result() is True


def test_wait_all_in_a_callback_is_refused(new_engine) -> None:
    device, calls = fake(1, gated=False), Calls()
    engine = new_engine(device)

    def callback(*_: object) -> None:
        with pytest.raises(RuntimeError, match="in a callback"):
            engine.wait_all()
        calls(None, None, "")

    engine.submit(frame(0), callback=callback)
    calls.wait(1)
