"""One call: as a session hands it to its engine, and as the engine keeps it from its acceptance to its single end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ort_rknn.ort_conventions import status_text

if TYPE_CHECKING:
    from ort_rknn.devices.program import Route
    from ort_rknn.engine.lanes.base import Task

__all__ = ["Callback", "Job", "Submission"]

Callback = Callable[[list[Any], Any, str], object]
"""Called as ``callback(results, user_data, error_text)``."""


class Submission:
    """One inference that is to be queued. One is made for every job, so it is a plain class: the fastest to make.

    Attributes:
        output_names: Which outputs, in which order; all when ``None`` or empty.
        feed: The inputs by name.
        run_options: An ``onnxruntime.RunOptions``, or ``None``.
        timeout: Seconds to wait for space in the queue, 0 refuses at once; ``None`` leaves it to the engine's options.
        callback: Called on the delivery thread when the job has ended.
        user_data: Handed to the callback.
        parked: Never wait for space: a job that finds none waits outside the queue (for event loops).
        awaited: It is an event loop's: where the engine's option ``overflow`` is not to block, it does what it does for
            any submission, at once.
        copy: Copy the inputs, so that the caller may overwrite them as soon as the job is accepted.
    """

    __slots__ = ("awaited", "callback", "copy", "feed", "output_names", "parked", "run_options", "timeout", "user_data")

    def __init__(
        self,
        output_names: Sequence[str] | None,
        feed: Mapping[str, Any],
        run_options: Any = None,
        timeout: float | None = None,
        callback: Callback | None = None,
        user_data: Any = None,
        parked: bool = False,
        copy: bool = True,
        awaited: bool = False,
    ) -> None:
        self.output_names = output_names
        self.feed = feed
        self.run_options = run_options
        self.timeout = timeout
        self.callback = callback
        self.user_data = user_data
        self.parked = parked
        self.copy = copy
        self.awaited = awaited

    def with_feed(self, output_names: Sequence[str] | None, feed: Mapping[str, Any]) -> Submission:
        """Returns this call, from now on with checked outputs and inputs."""
        self.output_names = output_names
        self.feed = feed
        return self


class Job:
    """One inference as the engine keeps it, and as little as that takes: one is made for every call.

    Its callback tells of its end; :class:`~ort_rknn.engine.job.InferenceJob` is also a future.

    Args:
        callback: As a submission's.
        user_data: As a submission's.
        run_options: As a submission's.
        kept: What lives until the callback has returned: a call keeps its session alive.

    Attributes:
        job_id: Number of the job in its engine, from 0, in order of submission.
        core: Core that executed its (last) NPU step; -1 where the driver chose, ``None`` before.
    """

    __slots__ = (
        "_accepted_at",
        "_begun_at",
        "_callback",
        "_cancelled",
        "_device_s",
        "_ended_at",
        "_error",
        "_feed",
        "_kept",
        "_position",
        "_results",
        "_route",
        "_run_options",
        "_task",
        "_user_data",
        "_values",
        "_work",
        "core",
        "job_id",
    )

    _route: Route
    _values: dict[str, Any]

    def __init__(
        self, callback: Callback | None = None, user_data: Any = None, run_options: Any = None, kept: object = None
    ) -> None:
        self.job_id = -1
        self.core: int | None = None
        self._callback = callback
        self._user_data = user_data
        self._run_options = run_options
        self._kept = kept
        self._task: Task | None = None  # while an NPU step waits or runs
        self._work: Callable[[], object] | None = None  # the last CPU work that was queued
        self._feed: dict[str, tuple[Any, Any]] = {}  # where there is a fallback: inputs, and the dtypes they came in
        self._position = 0
        self._accepted_at = 0.0
        self._begun_at = 0.0
        self._ended_at = 0.0
        self._device_s = 0.0

    def _begun(self) -> float:
        """Time at which its first step began, 0 before; of a native lane's it is known when that has ended."""
        task = self._task
        return self._begun_at or (task.taken_at if task is not None else 0.0)

    @property
    def _waits(self) -> bool:
        """Whether none of its steps has begun."""
        task = self._task
        return not (self._begun() or (task is not None and task.begun))

    def _settle(self, results: list[Any], error: BaseException | None, cancelled: str) -> None:
        """Keep how it ended, for its callback."""
        self._values = self._feed = {}
        self._task = self._work = None
        self._results = results
        self._error = error
        self._cancelled = cancelled

    def _call_back(self) -> None:
        """Give its end to its callback: ``(results, user_data, "")``, or ``([], user_data, reason)``."""
        callback, user_data, results, error = self._callback, self._user_data, self._results, self._error
        assert callback is not None
        self._callback = self._user_data = self._error = None
        self._results = []
        try:
            if self._cancelled:
                callback([], user_data, f"the job was not run: {self._cancelled}")
            elif error is None:
                callback(results, user_data, "")
            else:
                callback([], user_data, status_text(error) or str(error) or type(error).__name__)
        finally:
            self._kept = None

    def _orphan(self, error: BaseException) -> None:
        """End it in a forked child, where no thread will and no callback comes: nobody waits for it."""
