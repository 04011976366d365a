"""Many inferences: an iterator over a stream, and a call-by-call pipeline.

Both stand on one function, ``submit(feed) -> InferenceJob``, which the session binds to its outputs and options.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import wait as wait_for
from typing import Any, TypeVar

from ort_rknn.engine.job import InferenceJob

__all__ = ["Pipeline", "map_feeds"]

Feed = TypeVar("Feed")
Submit = Callable[[Feed], InferenceJob]


def map_feeds(submit: Submit[Feed], feeds: Iterable[Feed], *, depth: int, ordered: bool = True) -> Iterator[list[Any]]:
    """Run a stream of feeds, keeping ``depth`` in flight: prime, steady state, drain.

    Lazy: a feed is read when there is room for it. Leaving the loop early cancels what has not begun.

    Args:
        submit: Queues one feed.
        feeds: The stream; may be endless.
        depth: Jobs in flight, at least 1.
        ordered: Yield in the order of ``feeds``, else as they end.

    Yields:
        The outputs of one feed.

    Raises:
        ValueError: ``depth`` is below 1 (at the call, not at the first result).
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    return _map(submit, iter(feeds), depth, ordered)


def _map(submit: Submit[Feed], feeds: Iterator[Feed], depth: int, ordered: bool) -> Iterator[list[Any]]:
    flying: deque[InferenceJob] = deque()
    try:
        for feed in feeds:
            flying.append(submit(feed))
            if len(flying) >= depth:
                yield _land(flying, ordered)
        while flying:
            yield _land(flying, ordered)
    finally:
        for job in flying:
            job.cancel()


def _land(flying: deque[InferenceJob], ordered: bool) -> list[Any]:
    job = flying[0]
    if not ordered and not job.done():
        done = wait_for(flying, return_when=FIRST_COMPLETED).done
        job = next(candidate for candidate in flying if candidate in done)
    flying.remove(job)
    return job.result()  # no limit: it has ended, or is the oldest, which the engine ends


class Pipeline:
    """One feed in and, once it is filled, one result out per call.

    Args:
        submit: Queues one feed.
    """

    def __init__(self, submit: Submit[Any]) -> None:
        self._submit = submit
        self._flying: deque[InferenceJob] = deque()

    def __len__(self) -> int:
        """Results that are still to come."""
        return len(self._flying)

    def push(self, feed: Any, depth: int = 3, reset: bool = False) -> list[Any] | None:
        """Queue a feed and return the result of the call ``depth`` calls ago.

        Args:
            feed: The inputs.
            depth: Calls to be ahead, at least 1. EZ RKNN Async's default. May change from call to call: nothing is
                lost, the results come one per call, or all with :meth:`drain`.
            reset: Throw away what is pending first.

        Returns:
            The oldest result, or ``None`` while the pipeline fills.

        Raises:
            ValueError: ``depth`` is below 1.
        """
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        if reset:
            self.discard()
        self._flying.append(self._submit(feed))
        # no limit: the engine ends every job, by run_timeout_ms where that is set
        return self._flying.popleft().result() if len(self._flying) > depth else None

    def drain(self) -> list[list[Any]]:
        """All results that are still to come, oldest first."""
        results = []
        while self._flying:
            # no limit: as in push
            results.append(self._flying.popleft().result())
        return results

    def discard(self) -> None:
        """Throw away what is pending; what has not begun is cancelled."""
        while self._flying:
            self._flying.popleft().cancel()
