"""How a job is to be queued: what ``submit``, ``run_async`` and ``arun`` differ in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ort_rknn_converters.frozen import frozen

if TYPE_CHECKING:
    from ort_rknn.engine.engine import Engine
    from ort_rknn.engine.job import InferenceJob

__all__ = ["JobHow"]


@frozen
class JobHow:
    """The way of a job into the queue and back.

    Attributes:
        timeout: Seconds to wait for room; ``None`` leaves it to the engine's options.
        callback: Called as ``callback(results, user_data, error_text)``.
        user_data: Handed to the callback.
        parked: Never wait for room: a job that finds none waits outside the queue (for event loops).
    """

    timeout: float | None = None
    callback: Callable[[list[Any], Any, str], object] | None = None
    user_data: Any = None
    parked: bool = False

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
