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

__all__ = ["ENVIRONMENT", "INTERVAL_S", "FastSwitching"]

ENVIRONMENT = "ORT_RKNN_SWITCH_INTERVAL_MS"
INTERVAL_S = 0.0005
"""Measured: 1 ms and 0.5 ms serve three cores of 1 ms equally well; 0.5 ms leaves room for faster models."""

_lock = threading.RLock()
_holders = 0
_found = 0.0
_set = 0.0


def _wanted() -> float:
    try:
        return float(os.environ.get(ENVIRONMENT, "")) / 1000
    except ValueError:
        return INTERVAL_S


class FastSwitching:
    """One party's wish for quick switches; the interval is short while anybody has it."""

    def __init__(self) -> None:
        self._interval = _wanted()
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
                    _shorten(self._interval)

    def end(self) -> None:
        """Withdraws the request for a short switch interval."""
        if self._held:
            with _lock:
                if self._held:
                    self._held = False
                    _restore()


def _shorten(interval: float) -> None:
    global _holders, _found, _set
    _holders += 1
    current = sys.getswitchinterval()
    if _holders == 1:
        _found, _set = current, 0.0
    if interval < current:
        sys.setswitchinterval(interval)
        _set = sys.getswitchinterval()


def _restore() -> None:
    global _holders
    _holders -= 1
    if not _holders and _set and sys.getswitchinterval() == _set:
        sys.setswitchinterval(_found)
