"""Closes the contexts of sessions nobody has used for a while, on one thread for all of them."""

from __future__ import annotations

import os
import threading
import time
import weakref

from ort_rknn.accounting.ledger import Holder

__all__ = ["IDLE", "IdleUnload"]


class IdleUnload:
    """Holders and the seconds after which each gives its memory back. They open again at their next inference."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._watched: weakref.WeakKeyDictionary[Holder, float] = weakref.WeakKeyDictionary()
        self._thread: threading.Thread | None = None

    def watch(self, holder: Holder, seconds: float) -> None:
        """Look after a holder until it is forgotten or dropped."""
        with self._changed:
            self._watched[holder] = seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ort_rknn idle", daemon=True)
                self._thread.start()
            self._changed.notify()

    def forget(self, holder: Holder) -> None:
        """A holder is closed."""
        with self._changed:
            self._watched.pop(holder, None)
            self._changed.notify()

    def look(self, now: float) -> float | None:
        """Unload what is due; gives the seconds until the next look, ``None`` when nobody is watched.

        Args:
            now: As ``time.monotonic`` has it.
        """
        with self._changed:
            watched = list(self._watched.items())
        wait: float | None = None
        for holder, seconds in watched:
            left = holder.last_used + seconds - now
            if left <= 0:
                holder.give_back(everything=True)
                left = seconds  # what is used meanwhile is due no sooner
            wait = left if wait is None else min(wait, left)
        return wait

    def _work(self) -> None:
        """The thread; it ends with the last holder."""
        while True:
            wait = self.look(time.monotonic())
            with self._changed:
                if not self._watched:
                    self._thread = None
                    return
                self._changed.wait(wait)

    def forked(self) -> None:
        """In the child of a fork: the thread and what it looked after stayed in the parent."""
        self._begin()


IDLE = IdleUnload()
"""The one of this process."""

os.register_at_fork(after_in_child=IDLE.forked)
