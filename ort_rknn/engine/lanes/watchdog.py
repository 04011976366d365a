"""A thread that ends what takes too long: it sleeps until the earliest limit can have passed."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ort_rknn.engine.lanes.wake_ups import Sleeper

__all__ = ["Watchdog"]


class Watchdog:
    """Calls ``expire`` whenever a limit may have passed.

    Nobody needs to tell it of what begins: what begins now cannot be late before ``limit`` seconds from now.

    Args:
        limit: Seconds.
        expire: Deals with all that is late; gives the seconds until the next look, ``None`` when nothing runs.
    """

    def __init__(self, limit: float, expire: Callable[[], float | None]) -> None:
        self._limit = limit
        self._expire = expire
        self._sleeper = Sleeper()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()

    def start(self) -> None:
        """Begin to watch, unless it does already."""
        with self._lock:
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._watch, name="ort_rknn watchdog", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._sleeper.poke()

    def join(self, timeout: float | None) -> None:
        """Wait for the thread to end."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _watch(self) -> None:
        while not self._stopping:
            wait = self._expire()
            self._sleeper.sleep(self._limit if wait is None else min(wait, self._limit))
