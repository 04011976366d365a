"""Batch dispatch: a feed of many samples, for a model of one, spread over the cores and joined again.

Asked for by the run options, with our key or with that of EZ RKNN Async.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from ort_rknn.engine.job import InferenceJob, JobTiming
from ort_rknn.options.parsers import flag

__all__ = ["KEYS", "BatchJob", "read_options", "split_batch", "submit_batch"]

KEYS = ("ort_rknn.dispatch_batch", "ztu_modelrt_dispatch_batch")
"""The entry of the run options: ours, and the one that programs written for EZ RKNN Async use."""


def read_options(run_options: Any, callback: Any = None) -> tuple[bool, Any]:
    """Whether batch dispatch is asked for, and the run options for onnxruntime.

    Args:
        run_options: An ``onnxruntime.RunOptions``, anything else that has ``get_run_config_entry``, or a dictionary of
            the one entry; onnxruntime says what it thinks of other dictionaries.
        callback: What is to be called with the results, if anything.

    Raises:
        RuntimeError: It is asked for together with a callback.
        ValueError: The value is neither true nor false.
    """
    if isinstance(run_options, Mapping):
        if not run_options or not set(KEYS).issuperset(run_options):
            return False, run_options
        wanted, rest = any(_truth(run_options[key]) for key in run_options), None
    else:
        ask = getattr(run_options, "get_run_config_entry", None)
        wanted = ask is not None and any(_truth(_entry(ask, key)) for key in KEYS)
        rest = run_options if not wanted or hasattr(run_options, "terminate") else None  # onnxruntime's own goes on
    if wanted and callback is not None:
        raise RuntimeError(f"{KEYS[0]} works with run() and submit(), not with a callback")
    return wanted, rest


def _entry(ask: Callable[[str], Any], key: str) -> Any:
    try:
        return ask(key)
    except (RuntimeError, KeyError):  # onnxruntime's way to say that there is none
        return None


def _truth(value: Any) -> bool:
    if value is None or value == "":
        return False
    try:
        return flag(value)
    except ValueError as reason:
        raise ValueError(f"the run option {KEYS[0]} must be {reason}, not {value!r}") from None


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


def submit_batch(
    first: Callable[[Mapping[str, Any]], InferenceJob],
    others: Callable[[Mapping[str, Any]], InferenceJob],
    feed: Mapping[str, Any],
) -> BatchJob:
    """Queue every sample of a batch.

    Args:
        first: Queues a sample, waiting for room.
        others: Queues a sample in any case; it waits outside the queue where there is no room.
        feed: The inputs, each with the samples along axis 0.

    Raises:
        ValueError: The feed cannot be split.
        Exception: What the first sample that cannot be queued raises; those before it are cancelled.
    """
    feeds = split_batch(feed)
    jobs = [first(feeds[0])]
    try:
        jobs += [others(sample) for sample in feeds[1:]]
    except BaseException:
        for job in jobs:
            job.cancel()
        raise
    return BatchJob(jobs)


class BatchJob(InferenceJob):
    """The samples of one batch as one job. It has begun with its first sample and ends with its last.

    ``job_id`` is the first sample's; ``core`` stays ``None``, for there are several.

    Args:
        jobs: The samples, at least one.
    """

    def __init__(self, jobs: Sequence[InferenceJob]) -> None:
        super().__init__(jobs[0]._owner)
        self.job_id = jobs[0].job_id
        self._jobs: Sequence[InferenceJob] = tuple(jobs)
        self._left = len(jobs)
        self._lost = False
        self._counting = threading.Lock()
        for job in jobs:
            Future.add_done_callback(job, self._one_ended)  # not on the delivery thread, which may wait for the batch

    @property
    def timing(self) -> JobTiming:
        """The first sample's time in the queue, all samples' time in the device, and the whole."""
        timings = [job.timing for job in self._jobs]
        ends = [job._ended_at for job in self._jobs]
        total = max(ends) - self._jobs[0]._accepted_at if all(ends) else 0.0
        return JobTiming(min(one.queue for one in timings), sum(one.device for one in timings), total)

    def running(self) -> bool:
        """Whether a sample has begun and not all have ended."""
        return not self.done() and any(job.running() or job.done() for job in self._jobs)

    def cancel(self) -> bool:
        """Cancel the batch if none of its samples has begun."""
        if not self.done() and not self.running():
            for job in self._jobs:
                job.cancel()
        return self.cancelled()

    def _one_ended(self, job: Future[list[Any]]) -> None:
        with self._counting:
            self._left -= 1
            left = self._left
            # no limit: this is called when it has ended
            first_loss = not self._lost and (job.cancelled() or job.exception() is not None)
            self._lost = self._lost or first_loss
        if not left:
            self._finish()
        elif first_loss:
            for other in self._jobs:
                other.cancel()

    def _finish(self) -> None:
        # no limit: all have ended
        errors = [job.exception() for job in self._jobs if not job.cancelled()]
        error = next((error for error in errors if error is not None), None)
        if error is not None:
            self.set_exception(error)
        elif len(errors) < len(self._jobs):
            self._end_as_cancelled()
        else:
            try:
                # no limit: all have ended
                results = [job.result() for job in self._jobs]
                self.set_result([np.concatenate(arrays, axis=0) for arrays in zip(*results, strict=True)])
            except Exception as error:  # outputs that cannot be joined: scalars, sequences
                self.set_exception(error)
