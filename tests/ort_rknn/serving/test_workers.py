"""Threads of gRPC's calls: as many as are needed, told once, given back."""

from __future__ import annotations

import threading
import time

import pytest

from ort_rknn.serving.workers import Workers


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("workers under test")]


def test_a_thread_that_is_idle_is_taken_before_another_is_made() -> None:
    workers = Workers(8, "workers under test")
    seen = []
    for number in range(50):
        ended = threading.Event()
        task = workers.submit(lambda number: seen.append((number, threading.current_thread().name)), number)
        task.add_done_callback(lambda _, ended=ended: ended.set())
        assert ended.wait(10)
    assert [number for number, _ in seen] == list(range(50))
    assert len(names()) <= 2  # one may not have said yet that it is idle
    workers.shutdown()


def test_the_thread_that_has_rested_least_is_taken() -> None:
    workers = Workers(4, "workers under test")
    go, inside = threading.Event(), threading.Semaphore(0)
    ended = threading.Semaphore(0)

    def work() -> None:
        inside.release()
        assert go.wait(10)

    for _ in range(4):
        workers.submit(work).add_done_callback(lambda _: ended.release())
    for _ in range(4):
        assert inside.acquire(timeout=10)
    go.set()
    for _ in range(4):
        assert ended.acquire(timeout=10)
    deadline = time.monotonic() + 10
    while len(workers._resting) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    seen = set()
    for _ in range(50):
        last = workers._resting[-1]
        workers.submit(lambda: seen.add(threading.current_thread().name)).add_done_callback(lambda _: ended.release())
        assert ended.acquire(timeout=10)
        while len(workers._resting) < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert workers._resting[-1] is last
    assert len(seen) == 1
    workers.shutdown()


def test_more_than_the_threads_wait_for_one_of_them() -> None:
    workers = Workers(3, "workers under test")
    go, inside, ended = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def work() -> None:
        inside.release()
        assert go.wait(10)

    for _ in range(10):
        workers.submit(work).add_done_callback(lambda _: ended.release())
    for _ in range(3):
        assert inside.acquire(timeout=10)
    assert not inside.acquire(blocking=False)
    assert len(names()) == 3
    go.set()
    for _ in range(10):
        assert ended.acquire(timeout=10)
    for _ in range(10):  # all of them are taken again
        workers.submit(int).add_done_callback(lambda _: ended.release())
        assert ended.acquire(timeout=10)
    workers.shutdown()


def test_who_listens_is_told_once_early_or_late() -> None:
    workers = Workers(2, "workers under test")
    told: list[object] = []
    for _ in range(2000):
        ended = threading.Event()
        task = workers.submit(int)
        task.add_done_callback(lambda task, ended=ended: (told.append(task), ended.set()))
        assert ended.wait(10)
    assert len(told) == 2000
    workers.shutdown()


def test_a_failure_ends_the_task_and_not_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    workers = Workers(1, "workers under test")
    ended = threading.Event()
    workers.submit(lambda: 1 / 0).add_done_callback(lambda _: ended.set())
    assert ended.wait(10)
    ended.clear()
    workers.submit(int).add_done_callback(lambda _: ended.set())
    assert ended.wait(10)
    assert "ZeroDivisionError" in caplog.text
    workers.shutdown()


def test_threads_are_given_back_and_what_has_not_begun_never_does() -> None:
    workers = Workers(1, "workers under test")
    begun, go, done = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        assert go.wait(10)
        done.append("first")

    workers.submit(work)
    assert begun.wait(10)
    workers.submit(done.append, "second")
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("workers under test")]
    workers.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        workers.submit(int)
    go.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert done == ["first"]
