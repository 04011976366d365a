"""Records of calls: counts and times of each model's, for the protocol's statistics and for Prometheus; the access log.

The log has one line a call, on the logger ``ort_rknn.access``.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_left
from collections import Counter

from ort_rknn_converters.util.foreign_text import shown
from ort_rknn_converters.util.frozen import frozen

__all__ = ["BUCKETS", "Snapshot", "Statistics", "access_logger", "log_access", "logs_access"]

_logger = logging.getLogger("ort_rknn.access")
_logger.setLevel(logging.WARNING)  # off until the command turns it on

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Upper limits of the histogram of latencies, in seconds: from the smallest networks to those with parts on the CPU."""


@frozen
class Snapshot:
    """The numbers at one moment.

    Attributes:
        codes: Calls by gRPC's status, ``OK`` for those that were answered.
        seconds: Sum over answered calls, from the request read to the answer made.
        failed_seconds: Likewise over the others.
        queue_seconds: The part of it that jobs waited for a core.
        infer_seconds: The part of it that jobs ran.
        buckets: Answered calls by latency; the last is above all limits.
        last: When the last call ended, in milliseconds since 1970; 0 before the first.
    """

    codes: dict[str, int]
    seconds: float
    failed_seconds: float
    queue_seconds: float
    infer_seconds: float
    buckets: tuple[int, ...]
    last: int

    @property
    def answered(self) -> int:
        """Calls that got their outputs."""
        return self.codes.get("OK", 0)

    @property
    def failed(self) -> int:
        """Calls that got an error."""
        return sum(self.codes.values()) - self.answered


class Statistics:
    """The numbers of one model, since the server began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codes: Counter[str] = Counter()
        self._seconds = self._failed = self._queue = self._infer = 0.0
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._last = 0

    def answered(self, seconds: float, queue: float, infer: float) -> None:
        """Count an answered call."""
        with self._lock:
            self._codes["OK"] += 1
            self._seconds += seconds
            self._queue += queue
            self._infer += infer
            self._buckets[bisect_left(BUCKETS, seconds)] += 1
            self._last = time.time_ns() // 1_000_000

    def failed(self, code: str, seconds: float) -> None:
        """Count a call that ended with a status other than OK."""
        with self._lock:
            self._codes[code] += 1
            self._failed += seconds
            self._last = time.time_ns() // 1_000_000

    def snapshot(self) -> Snapshot:
        """The numbers now."""
        with self._lock:
            return Snapshot(
                dict(self._codes),
                self._seconds,
                self._failed,
                self._queue,
                self._infer,
                tuple(self._buckets),
                self._last,
            )


def access_logger() -> logging.Logger:
    """The logger; its level INFO turns it on."""
    return _logger


def logs_access() -> bool:
    """Whether anybody reads the access log."""
    return _logger.isEnabledFor(logging.INFO)


def log_access(door: str, peer: str, call: str, model: str, status: str, seconds: float) -> None:
    """Write who called what, how it ended and how long it took. What a client made up controls nothing in it."""
    if logs_access():
        _logger.info("%s %s %s %r %s %.1f ms", door, peer, shown(call), shown(model), status, 1000 * seconds)
