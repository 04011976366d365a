"""Callbacks of ``run_async``: counted while under way, so that ``wait_all`` and ``close`` can wait for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["KeepAliveCallback", "PendingCallbacks"]


class KeepAliveCallback:
    """A callback that keeps something alive until it has returned. Error messages show it as the program's own.

    Args:
        callback: The program's.
        kept: What must live until then: a call keeps its session alive.
    """

    def __init__(self, callback: Callable[..., object], kept: object) -> None:
        self._callback = callback
        self._kept: object = kept

    def __call__(self, *results: Any) -> None:
        """Deliver, and let go."""
        try:
            self._callback(*results)
        finally:
            self._kept = None

    def __repr__(self) -> str:
        return repr(self._callback)


class _CountedCallback:
    """A callback that is counted until it has returned. Error messages show it as the program's own."""

    def __init__(self, calls: PendingCallbacks, callback: Callable[..., object]) -> None:
        self._calls = calls
        self._callback = callback

    def __call__(self, *results: Any) -> None:
        with self._calls.inside():
            self._callback(*results)

    def __repr__(self) -> str:
        return repr(self._callback)


class PendingCallbacks:
    """Counts callbacks that are still to come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._left = 0
        self._inside: set[int] = set()

    def watch(self, callback: Callable[..., object]) -> Callable[..., object]:
        """The callback, counted until it has returned."""
        with self._changed:
            self._left += 1
        return _CountedCallback(self, callback)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is inside a callback, which has ended afterwards."""
        me = threading.get_ident()
        self._inside.add(me)
        try:
            yield
        finally:
            self._inside.discard(me)
            self.ended()

    def ended(self) -> None:
        """One has returned, or its call was refused."""
        with self._changed:
            self._left -= 1
            self._changed.notify_all()

    @property
    def here(self) -> bool:
        """Whether the calling thread is inside one of the callbacks."""
        return threading.get_ident() in self._inside

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until none is left; ``False`` when some are after ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._left, timeout)
