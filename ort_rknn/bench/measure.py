"""The measuring itself: one pass over a session, waiting for each inference or with several in flight."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from ort_rknn.engine.job import InferenceJob
from ort_rknn_converters.util.frozen import frozen

__all__ = ["CoreUse", "Limit", "Pass", "async_pass", "sync_pass"]

Progress = Callable[[int], object]
"""Called with the number of inferences that have ended."""

FAILURES_TO_STOP = 100
"""Failures after which a pass ends early: a dead device fails at once and for ever. A guess."""


@frozen
class Limit:
    """End of a pass: after ``count`` inferences, or with the first one that would begin after ``seconds``."""

    count: int | None = 10
    seconds: float | None = None

    def reached(self, done: int, elapsed: float) -> bool:
        """Whether no other inference is to begin."""
        return (self.count is not None and done >= self.count) or (self.seconds is not None and elapsed >= self.seconds)


@frozen
class CoreUse:
    """Work of a core in a pass.

    Attributes:
        core: Number of the core; -1 where the driver chooses.
        contexts: How many contexts it has.
        inferences: Segments it executed.
        busy: Share of the pass that a context was inside the device, the mean over its contexts.
    """

    core: int
    contexts: int
    inferences: int
    busy: float


@dataclass
class Pass:
    """A pass that was measured.

    Attributes:
        api: ``sync`` or ``async``.
        jobs: How many inferences were in flight.
        asked: How many were begun.
        seconds: From the first submission to the last end.
        latencies: Seconds of each that succeeded, in order of submission.
        cores: What each core did; empty without an NPU part.
        error: The first failure, in words.
        results: The outputs of the last one.
    """

    api: str
    jobs: int
    asked: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    cores: tuple[CoreUse, ...] = ()
    error: str = ""
    results: list[Any] = field(default_factory=list)

    @property
    def completed(self) -> int:
        """Inferences that gave a result."""
        return len(self.latencies)

    @property
    def throughput(self) -> float:
        """Results per second."""
        return self.completed / self.seconds if self.seconds else 0.0

    def note(self, error: Exception) -> None:
        """Remember a failure."""
        self.error = self.error or f"{type(error).__name__}: {error}"

    @property
    def hopeless(self) -> bool:
        """Whether so much failed that going on is no use."""
        return self.asked - self.completed >= FAILURES_TO_STOP


def sync_pass(session: Any, feed: Mapping[str, Any], limit: Limit, progress: Progress) -> Pass:
    """Call ``run`` again and again, each time waiting for the result."""
    measured = Pass("sync", 1)
    before = _lanes(session)
    begun = time.perf_counter()
    while not limit.reached(measured.asked, time.perf_counter() - begun) and not measured.hopeless:
        measured.asked += 1
        start = time.perf_counter()
        try:
            measured.results = session.run(None, feed)
        except Exception as error:  # a failing inference is a result of the measurement
            measured.note(error)
        else:
            measured.latencies.append(time.perf_counter() - start)
        progress(measured.asked)
    measured.seconds = time.perf_counter() - begun
    measured.cores = _use(before, _lanes(session), measured.seconds)
    return measured


def async_pass(session: Any, feed: Mapping[str, Any], limit: Limit, progress: Progress, jobs: int) -> Pass:
    """Keep ``jobs`` inferences in flight: fill, then one in for the oldest one out, then drain.

    A latency is the time from a job's acceptance to its end: waiting for a core included, waiting for room not.
    """
    measured = Pass("async", jobs)
    flying: deque[InferenceJob] = deque()
    ended = 0
    before = _lanes(session)
    begun = time.perf_counter()

    def land() -> None:
        nonlocal ended
        job = flying.popleft()
        try:
            measured.results = job.result()  # no limit: the engine ends every job, by run_timeout_ms where it is set
        except Exception as error:  # as above
            measured.note(error)
        else:
            measured.latencies.append(job.timing.total)
        ended += 1
        progress(ended)

    while not limit.reached(measured.asked, time.perf_counter() - begun):
        if ended - measured.completed >= FAILURES_TO_STOP:
            break
        measured.asked += 1
        try:
            flying.append(session.submit(None, feed))
        except Exception as error:  # no room for ever, or the session died
            measured.note(error)
            ended += 1
        if len(flying) >= jobs:
            land()
    while flying:
        land()
    measured.seconds = time.perf_counter() - begun
    measured.cores = _use(before, _lanes(session), measured.seconds)
    return measured


def _lanes(session: Any) -> tuple[Any, ...]:
    if not hasattr(session, "stats"):  # onnxruntime's own
        return ()
    lanes: tuple[Any, ...] = session.stats().lanes
    return lanes


def _use(before: tuple[Any, ...], after: tuple[Any, ...], seconds: float) -> tuple[CoreUse, ...]:
    gains: dict[int, list[tuple[int, float]]] = {}
    for old, new in zip_longest(before, after):  # a session with dynamic shapes may have made new ones meanwhile
        tasks, busy_s = (old.tasks, old.busy_s) if old is not None else (0, 0.0)
        gains.setdefault(new.core, []).append((new.tasks - tasks, new.busy_s - busy_s))
    return tuple(
        CoreUse(core, len(rows), sum(tasks for tasks, _ in rows), sum(busy for _, busy in rows) / len(rows) / seconds)
        for core, rows in sorted(gains.items())
    )
