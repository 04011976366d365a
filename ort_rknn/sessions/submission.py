"""How a job is to be queued: what ``submit``, ``run_async`` and ``arun`` differ in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ort_rknn.engine.engine import Engine
    from ort_rknn.engine.job import InferenceJob

__all__ = ["JobHow"]


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
