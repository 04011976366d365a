"""Sleeping without losing a wake-up."""

from __future__ import annotations

import threading

import pytest

from ort_rknn.engine.lanes.wake_ups import Sleeper, SpaceSignal
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
