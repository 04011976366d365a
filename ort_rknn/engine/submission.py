"""One call as a session hands it to its engine: feed, wanted outputs, and the way into the queue and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["Callback", "Submission"]

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
        """Returns the same call with checked outputs and inputs."""
        return Submission(
            output_names,
            feed,
            self.run_options,
            self.timeout,
            self.callback,
            self.user_data,
            self.parked,
            self.copy,
            self.awaited,
        )
