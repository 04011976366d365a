"""The way of a call into the engine's queue, and of its callback back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ort_rknn.engine.engine import Engine
    from ort_rknn.engine.job import InferenceJob

__all__ = ["JobHow", "Keeping", "NativeCalls"]


class JobHow:
    """The way of a job into the queue and back. One is made for every job, so it is a plain class: the fastest to make.

    Attributes:
        timeout: Seconds to wait for room; ``None`` leaves it to the engine's options.
        callback: Called as ``callback(results, user_data, error_text)``.
        user_data: Handed to the callback.
        parked: Never wait for room: a job that finds none waits outside the queue (for event loops).
    """

    __slots__ = ("callback", "parked", "timeout", "user_data")

    def __init__(
        self,
        timeout: float | None = None,
        callback: Callable[[list[Any], Any, str], object] | None = None,
        user_data: Any = None,
        parked: bool = False,
    ) -> None:
        self.timeout = timeout
        self.callback = callback
        self.user_data = user_data
        self.parked = parked

    def submit(self, engine: Engine, feed: dict[str, Any], outputs: Sequence[str], run_options: Any) -> InferenceJob:
        """Queue a job this way."""
        if self.parked:
            return engine.submit_parked(feed, outputs, run_options=run_options)
        return engine.submit(
            feed,
            outputs,
            timeout=self.timeout,
            run_options=run_options,
            callback=self.callback,
            user_data=self.user_data,
        )


class Keeping:
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


class _Watched:
    """A callback that is counted until it has returned. Error messages show it as the program's own."""

    def __init__(self, calls: NativeCalls, callback: Callable[..., object]) -> None:
        self._calls = calls
        self._callback = callback

    def __call__(self, *results: Any) -> None:
        with self._calls.inside():
            self._callback(*results)

    def __repr__(self) -> str:
        return repr(self._callback)


class NativeCalls:
    """Counts callbacks that are still to come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._left = 0
        self._inside: set[int] = set()

    def watch(self, callback: Callable[..., object]) -> Callable[..., object]:
        """The callback, counted until it has returned."""
        with self._changed:
            self._left += 1
        return _Watched(self, callback)

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
