"""Wake-ups that cannot be lost: :class:`Sleeper` for one thread, :class:`SpaceSignal` for many that wait for space.

All locks of the engine are re-entrant: dropping the last reference to an engine closes it, and the garbage collector
may do so in the middle of a critical section of that same engine.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque

__all__ = ["Sleeper", "SpaceSignal"]


class Sleeper:
    """A binary semaphore that one thread sleeps on. A poke before the sleep is not lost; several count as one."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()  # no limit: it is new, and free

    def sleep(self, timeout: float | None = None) -> bool:
        """Sleep until poked; ``False`` when ``timeout`` seconds passed first."""
        return self._lock.acquire(timeout=-1 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX))

    def poke(self) -> None:
        """Wake the sleeper, or keep it from falling asleep the next time."""
        with contextlib.suppress(RuntimeError):  # poked already
            self._lock.release()


class SpaceSignal:
    """Submitters wait here until something has changed that may have made room.

    A waiter takes a mark, looks whether there is room, and waits for the mark to change: nothing that happens between
    the look and the wait is lost. Each change wakes one waiter, first come first served, not the whole crowd.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._mark = 0
        self._sleepers: deque[Sleeper] = deque()

    def mark(self) -> int:
        """The state of affairs, to be handed to :meth:`wait`."""
        return self._mark

    def touch(self, everyone: bool = False) -> None:
        """Something changed: wake the first waiter (or every one)."""
        with self._lock:
            self._mark += 1
            if not self._sleepers:
                return
            woken = [self._sleepers.popleft() for _ in range(len(self._sleepers) if everyone else 1)]
        for sleeper in woken:
            sleeper.poke()

    def wait(self, mark: int, timeout: float | None = None, *, first: bool = False) -> None:
        """Sleep until something has changed since ``mark``, at most ``timeout`` seconds.

        Args:
            mark: What :meth:`mark` gave before the caller looked.
            timeout: Seconds; ``None`` waits for ever.
            first: Be woken before all others.
        """
        with self._lock:
            if self._mark != mark:
                return
            sleeper = Sleeper()
            (self._sleepers.appendleft if first else self._sleepers.append)(sleeper)
        woken = False
        try:
            woken = sleeper.sleep(timeout)
        finally:
            if not woken:
                self._leave(sleeper)

    def _leave(self, sleeper: Sleeper) -> None:
        with self._lock:
            try:
                self._sleepers.remove(sleeper)
            except ValueError:  # a wake-up was on its way: the next in line shall have it
                self.touch()
