"""Sleeping without losing a wake-up."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from ort_rknn.engine.lanes import wake_ups
from ort_rknn.engine.lanes.wake_ups import BriefLock, Sleeper, SpaceSignal
from tests.helpers.engines import LONG, Background


def test_a_poke_before_the_sleep_is_not_lost_and_several_count_as_one() -> None:
    sleeper = Sleeper()
    sleeper.poke()
    sleeper.poke()
    assert sleeper.sleep(0)
    assert not sleeper.sleep(0)


def test_a_change_between_the_look_and_the_wait_is_not_lost() -> None:
    room = SpaceSignal()
    mark = room.mark()
    room.touch()
    Background(lambda: room.wait(mark)).result()


def test_each_touch_wakes_the_first_in_line() -> None:
    room, woken = SpaceSignal(), []
    ready = threading.Semaphore(0)

    def wait(name: str, first: bool) -> None:
        mark = room.mark()
        ready.release()
        room.wait(mark, LONG, first=first)
        woken.append(name)

    waiting = []
    for name, first in (("a", False), ("b", False), ("c", True)):
        call = Background(lambda name=name, first=first: wait(name, first))
        assert ready.acquire(timeout=LONG)
        while len(room._sleepers) <= len(waiting):
            threading.Event().wait(0.001)
        waiting.append(call)
    for place in (2, 0, 1):
        room.touch()
        waiting[place].result()
    assert woken == ["c", "a", "b"]


def test_everyone() -> None:
    room = SpaceSignal()
    calls = [Background(lambda: room.wait(room.mark(), LONG)) for _ in range(3)]
    while len(room._sleepers) < 3:
        threading.Event().wait(0.001)
    room.touch(everyone=True)
    for call in calls:
        call.result()


def test_who_leaves_hands_its_wake_up_on() -> None:
    room = SpaceSignal()
    second = Background(lambda: room.wait(room.mark(), LONG))
    while not room._sleepers:
        threading.Event().wait(0.001)
    gone = Sleeper()
    room._leave(gone)  # not in line any more: it was poked, but gave up at the same time
    second.result()


def test_time_passes() -> None:
    room = SpaceSignal()
    room.wait(room.mark(), 0.01)
    room.wait(room.mark(), 0)
    room.wait(room.mark(), -1)
    assert not room._sleepers


def test_an_interrupt_leaves_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    room = SpaceSignal()

    def interrupted(self: Sleeper, timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Sleeper, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        room.wait(room.mark(), None)
    assert not room._sleepers


@pytest.mark.parametrize("tries", [0, 1_000_000_000], ids=["waits", "tries"])
def test_a_brief_lock_is_one_thread_s_and_goes_to_who_waits(tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake_ups, "_TRIES", tries)
    lock, begun, order = BriefLock(), threading.Event(), list[str]()

    def wait() -> None:
        begun.set()
        with lock:
            order.append("other")

    with lock, lock:  # re-entrant
        other = Background(wait)
        assert begun.wait(LONG)
        order.append("first")
    other.result()
    assert order == ["first", "other"]
    assert lock.acquire(blocking=False)


def test_a_brief_lock_counts_what_many_threads_add() -> None:
    lock, total = BriefLock(), [0]

    def add() -> None:
        for _ in range(2000):
            with lock:
                before = total[0]
                if not before % 100:
                    time.sleep(0)  # another thread's turn, in the midst of it
                total[0] = before + 1

    for thread in [Background(add) for _ in range(4)]:
        thread.result()
    assert total == [8000]


@pytest.mark.parametrize("mine", [False, True])
def test_an_interrupt_leaves_a_brief_lock_as_it_was(mine: bool) -> None:
    class Interrupted(BriefLock):
        """Ctrl-C in the moment in which the lock was taken."""

        interrupted = False

        def acquire(self, *arguments: Any, **named: Any) -> bool:
            taken = super().acquire(*arguments, **named)
            if self.interrupted:
                raise KeyboardInterrupt
            return bool(taken)

    lock = Interrupted()
    if mine:
        lock.acquire()
    lock.interrupted = True
    with pytest.raises(KeyboardInterrupt), lock:
        pass
    lock.interrupted = False
    assert lock._is_owned() == mine
