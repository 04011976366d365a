"""Pacing: hold submissions back to the rate the cores can sustain, as EZ RKNN Async defines it."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Pacer"]

KEEP = 0.95
"""Weight of the old mean; EZ RKNN Async's."""


class Pacer:
    """Spaces submissions by the mean inference time over the number of cores.

    The mean moves by ``mean = 0.95 * mean + 0.05 * sample``; the first sample is taken whole. Lanes
    give samples; the rest is called under the engine's lock.

    Args:
        cores: Distinct cores that work.
        clock: Seconds, monotonic.
    """

    def __init__(self, cores: int, clock: Callable[[], float]) -> None:
        self._cores = cores
        self._clock = clock
        self._lock = threading.RLock()
        self._mean: float | None = None
        self._last: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean inference time in seconds; ``None`` before the first sample."""
        return self._mean

    @property
    def interval(self) -> float:
        """Least time between two submissions, in seconds; 0 before the first sample."""
        return 0.0 if self._mean is None else self._mean / self._cores

    def sample(self, seconds: float) -> None:
        """Learn from an inference that took this long."""
        with self._lock:
            self._mean = seconds if self._mean is None else KEEP * self._mean + (1.0 - KEEP) * seconds

    def delay(self) -> float:
        """Seconds until the next submission may go; 0 when it may go now."""
        if self._last is None:
            return 0.0
        return max(0.0, self._last + self.interval - self._clock())

    def accepted(self) -> None:
        """A submission goes now."""
        self._last = self._clock()
