"""A shorter switch interval of the interpreter while the NPU would starve without it.

A thread that wants the interpreter's lock from another busy one gets it after ``sys.getswitchinterval()``, 5 ms by
default, and after twice that when a third wants it too. A program that submits from one thread and computes in another
then feeds three cores of 1 ms at a third of what they can do (measured). So while a submission waits because the queue
is full, the interval is :data:`INTERVAL_S`; it is given back when nothing is in flight any more, unless the program has
set one of its own meanwhile. A program that chose a shorter one keeps it. ``ORT_RKNN_SWITCH_INTERVAL_MS`` sets another
value; 0 leaves the interval alone.
"""

from __future__ import annotations

import os
import sys
import threading

__all__ = ["ENVIRONMENT", "INTERVAL_S", "URGENT_S", "FastSwitching"]

ENVIRONMENT = "ORT_RKNN_SWITCH_INTERVAL_MS"
INTERVAL_S = 0.0005
"""Measured: 1 ms and 0.5 ms serve three cores of 1 ms equally well; 0.5 ms leaves room for faster models."""

URGENT_S = 0.0001
"""While callbacks pile up, and while contexts are opened. Each callback that lets go of the interpreter's lock, as
numpy does for every array of more than 500 elements, waits one interval to get it back from a busy thread: 0.5 ms each
are at most 2000 callbacks a second. An opening is some 20 calls of the vendor's that let go of it, too."""

_lock = threading.RLock()
_wishes: list[float] = []
_found = 0.0
_set = 0.0


def _wanted(otherwise: float) -> float:
    try:
        return float(os.environ.get(ENVIRONMENT, "")) / 1000
    except ValueError:
        return otherwise


class FastSwitching:
    """One party's wish for quick switches; the interval is short while anybody has it.

    Args:
        interval: Seconds; the environment goes before it.
    """

    def __init__(self, interval: float = INTERVAL_S) -> None:
        self._interval = _wanted(interval)
        self._held = False

    @property
    def held(self) -> bool:
        """Whether it is wished for."""
        return self._held

    def begin(self) -> None:
        """Wish for quick switches from now on."""
        if not self._held and self._interval > 0:
            with _lock:
                if not self._held:
                    self._held = True
                    _begin(self._interval)

    def end(self) -> None:
        """Withdraws the request for a short switch interval."""
        if self._held:
            with _lock:
                if self._held:
                    self._held = False
                    _end(self._interval)


def _begin(interval: float) -> None:
    global _found, _set
    current = sys.getswitchinterval()
    if not _wishes or current != _set:  # nobody's, or the program has set one of its own meanwhile
        _found, _set = current, 0.0
    _wishes.append(interval)
    _apply(current)


def _end(interval: float) -> None:
    global _set
    _wishes.remove(interval)
    current = sys.getswitchinterval()
    if not _set or current != _set:
        return
    _set = 0.0
    sys.setswitchinterval(_found)
    if _wishes:
        _apply(_found)


def _apply(current: float) -> None:
    global _set
    shortest = min(_wishes)
    if shortest < current:
        sys.setswitchinterval(shortest)
        _set = sys.getswitchinterval()
