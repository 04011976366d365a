"""Ends engines with the process: those still open when the interpreter exits, and engines inherited by a fork."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol

__all__ = ["FORKED", "EndsWithProcess", "forget", "watch"]

FORKED = (
    "this session was made before fork(); its threads and NPU contexts stayed in the parent process. "
    "Make a session in the child"
)


class EndsWithProcess(Protocol):
    """An object with threads and NPU contexts, which this process alone may use."""

    def close_at_exit(self) -> None:
        """Close within a bounded time, while the interpreter ends."""

    def after_fork(self) -> None:
        """Become unusable: this is the child of a fork."""


_watched: weakref.WeakSet[EndsWithProcess] = weakref.WeakSet()
_hooked = False


def watch(engine: EndsWithProcess) -> None:
    """Close ``engine`` when the interpreter exits; mark it as unusable in a forked child."""
    global _hooked
    if not _hooked:
        _hooked = True
        atexit.register(_at_exit)
        os.register_at_fork(after_in_child=_after_fork)
    _watched.add(engine)


def forget(engine: EndsWithProcess) -> None:
    """``engine`` is closed."""
    _watched.discard(engine)


def _at_exit() -> None:
    for engine in list(_watched):
        engine.close_at_exit()


def _after_fork() -> None:
    for engine in list(_watched):
        engine.after_fork()
    _watched.clear()
