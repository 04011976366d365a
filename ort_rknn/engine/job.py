"""A job: one inference from its acceptance to its single end, as a future.

States of a job, and the moves that exist:

    waiting -> running      a lane or a CPU worker took its first step
    waiting -> cancelled    by cancel(), an overflow, or close(cancel_jobs=True)
    running -> done         with a result or an error, once
    waiting -> done         with an error (no core left, the process ends)

Results live here and nowhere else; a job that has ended holds no inputs any more.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Protocol

from ort_rknn.engine.submission import Callback, Job
from ort_rknn_converters.util.frozen import frozen

__all__ = ["InferenceJob", "JobTiming"]


@frozen
class JobTiming:
    """Times of a job by phase, in seconds; 0 for what has not happened yet.

    Attributes:
        queue: From acceptance until its first step began.
        device: Inside the device, over all its NPU steps.
        total: From acceptance to its end.
    """

    queue: float
    device: float
    total: float


class Owner(Protocol):
    """Engine as a job sees it."""

    def cancel_waiting(self, job: InferenceJob) -> bool:
        """Take a waiting job out of its queue and end it as cancelled; ``False`` when it is too late."""

    def later(self, function: Callable[[], object]) -> None:
        """Run user code on the delivery thread."""


class InferenceJob(Job, Future[list[Any]]):
    """One inference; what ``submit`` returns. A :class:`concurrent.futures.Future` that can be polled and awaited.

    Functions given to :meth:`add_done_callback` run on the delivery thread, so that no core waits for user code.

    Attributes:
        job_id: Number of the job in its engine, from 0, in order of submission.
        core: Core that executed its (last) NPU step; -1 where the driver chose, ``None`` before.
    """

    def __init__(
        self,
        owner: Owner | None = None,
        callback: Callback | None = None,
        user_data: Any = None,
        run_options: Any = None,
    ) -> None:
        Job.__init__(self, callback, user_data, run_options)
        Future.__init__(self)
        self._owner = owner

    @property
    def timing(self) -> JobTiming:
        """Times by phase so far."""
        begun = self._begun()
        return JobTiming(
            queue=max(0.0, begun - self._accepted_at) if begun else 0.0,
            device=self._device_s,
            total=max(0.0, self._ended_at - self._accepted_at) if self._ended_at else 0.0,
        )

    def _settle(self, results: list[Any], error: BaseException | None, cancelled: str) -> None:
        super()._settle(results, error, cancelled)
        if cancelled:
            self._end_as_cancelled()
        elif error is not None:
            self.set_exception(error)
        else:
            self.set_result(results)

    def _end_as_cancelled(self) -> None:
        super().cancel()
        self.set_running_or_notify_cancel()

    def running(self) -> bool:
        """Whether a step of the job has begun and the job has not ended."""
        return not self._waits and not self.done()

    def cancel(self) -> bool:
        """Cancel the job if it still waits; a job that runs is left alone.

        Returns:
            Whether the job is cancelled now.
        """
        if self._owner is not None and not self.done():
            self._owner.cancel_waiting(self)
        return self.cancelled()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended; never raises the job's error.

        Args:
            timeout: Seconds; 0 polls, ``None`` waits for ever.

        Returns:
            Whether it has ended.
        """
        if self.done():
            return True
        try:
            self.exception(timeout)
        except CancelledError:
            return True
        except (TimeoutError, FutureTimeout):  # two classes before Python 3.11
            return self.done()
        return True

    def add_done_callback(self, fn: Callable[[Future[list[Any]]], object]) -> None:
        """Call ``fn(job)`` when the job has ended: at once if it has, else on the engine's delivery thread."""
        owner = self._owner
        if owner is None or self.done():
            super().add_done_callback(fn)
        else:
            super().add_done_callback(lambda job: owner.later(lambda: fn(job)))

    def __await__(self) -> Generator[Any, None, list[Any]]:
        """Wait without blocking the event loop and without a thread.

        Cancelling the task that waits cancels the job, if it has not begun.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        def ended(_: Future[list[Any]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(wake)

        super().add_done_callback(ended)
        try:
            yield from waiter.__await__()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self.cancelled():
            raise asyncio.CancelledError
        return self.result()  # no limit: it has ended

    def _orphan(self, error: BaseException) -> None:
        """End a job in a forked child, where no thread will: its condition may be locked by a thread of the parent."""
        self._condition = threading.Condition()
        self._done_callbacks: list[Any] = []
        self.set_exception(error)
