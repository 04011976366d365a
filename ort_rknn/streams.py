"""Many inferences: an iterator over a stream, a call-by-call pipeline, and a batch spread over the cores.

All three stand on one function, ``submit(feed) -> InferenceJob``, which the session binds to its outputs and options.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import wait as wait_for
from typing import Any, TypeVar

import numpy as np

from ort_rknn.engine.job import InferenceJob

__all__ = ["Pipeline", "dispatch_batch", "map_feeds", "split_batch"]

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
    return job.result()


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
            depth: Calls to be ahead, at least 1. The seed's default. May change from call to call: nothing is lost,
                the results come one per call, or all with :meth:`drain`.
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
        return self._flying.popleft().result() if len(self._flying) > depth else None

    def drain(self) -> list[list[Any]]:
        """All results that are still to come, oldest first."""
        results = []
        while self._flying:
            results.append(self._flying.popleft().result())
        return results

    def discard(self) -> None:
        """Throw away what is pending; what has not begun is cancelled."""
        while self._flying:
            self._flying.popleft().cancel()


def split_batch(feed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Split every input along axis 0 into feeds of one sample.

    Raises:
        ValueError: An input has no axis 0, the inputs' batches differ, or the batch is empty.
    """
    sizes = {name: np.shape(array)[0] if np.ndim(array) else None for name, array in feed.items()}
    if len(set(sizes.values())) != 1 or None in sizes.values():
        raise ValueError(f"batch dispatch needs the same size along axis 0 in every input, got {sizes}")
    size = next(iter(sizes.values()))
    if not size:
        raise ValueError("batch dispatch got an empty batch")
    arrays = {name: np.asarray(array) for name, array in feed.items()}
    return [{name: array[place : place + 1] for name, array in arrays.items()} for place in range(size)]


def dispatch_batch(submit: Submit[Any], feeds: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Run the samples of a batch over all cores and join each output along axis 0.

    Args:
        submit: Queues one sample.
        feeds: What :func:`split_batch` gave.

    Returns:
        One array per output.
    """
    jobs: list[InferenceJob] = []
    try:
        for feed in feeds:
            jobs.append(submit(feed))
        results = [job.result() for job in jobs]
    finally:
        for job in jobs:
            job.cancel()
    return [np.concatenate(arrays, axis=0) for arrays in zip(*results, strict=True)]
