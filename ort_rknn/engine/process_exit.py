"""What ends with the process: engines still open when the interpreter exits, and engines inherited by a fork."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ort_rknn.engine.job_manager import Core

__all__ = ["FORKED", "forget", "watch"]

FORKED = (
    "this session was made before fork(); its threads and NPU contexts stayed in the parent process. "
    "Make a session in the child"
)

_cores: weakref.WeakSet[Core] = weakref.WeakSet()
_hooked = False


def watch(core: Core) -> None:
    """Close ``core`` when the interpreter exits; mark it as unusable in a forked child."""
    global _hooked
    if not _hooked:
        _hooked = True
        atexit.register(_at_exit)
        os.register_at_fork(after_in_child=_after_fork)
    _cores.add(core)


def forget(core: Core) -> None:
    """``core`` is closed."""
    _cores.discard(core)


def _at_exit() -> None:
    for core in list(_cores):
        core.close_at_exit()


def _after_fork() -> None:
    for core in list(_cores):
        core.after_fork()
    _cores.clear()
