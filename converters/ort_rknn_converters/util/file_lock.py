"""Locks between processes, also where the file system has none: NFS without its lock daemon, some FUSE and 9p mounts.

There everybody works as if alone: what is written is renamed into place, so nobody reads half of it; only the sharing
of work is off, and two processes may do the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ort_rknn_converters.util.log import logger
from ort_rknn_converters.util.own_files import NoRegularFile, read_own

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["HOLDER_STOPPED_S", "has_locks", "held", "holder", "without_locks"]

LONGEST_S = 600.0
"""Longest wait where nobody says another: a guess, what is done under a lock takes seconds to minutes."""

HOLDER_STOPPED_S = 10.0
"""Longest wait for a holder that is stopped (Ctrl-Z, a debugger, a frozen container). A guess: a glance at a prompt."""

_TURN_S = 0.5  # between two tries; filelock's own polling is within

_HELD_BY_OTHERS = frozenset({errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK})


def without_locks(error: OSError) -> bool:
    """Whether a lock failed because the file system has none, not because somebody holds it."""
    return error.errno not in _HELD_BY_OTHERS


@lru_cache(maxsize=64)
def has_locks(folder: Path) -> bool:
    """Whether files in ``folder`` can be locked; tried on one of our own.

    Raises:
        OSError: The folder cannot be written.
    """
    import tempfile  # not at a start from the cache

    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if without_locks(error):
                logger().info("%s has no locks (%s): processes do not share work there", folder, error.strerror)
                return False
    return True


@contextmanager
def held(path: Path, *, timeout: float = LONGEST_S, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock for the length of a ``with`` block; whoever dies gives it back. Its file stays.

    Args:
        path: The lock's file; its folder exists.
        timeout: Seconds to wait for others. One that is stopped is waited for :data:`HOLDER_STOPPED_S` at most.
        waiting: Called once if there is somebody to wait for.

    Raises:
        filelock.Timeout: Others still hold it.
        OSError: The folder cannot be written.
    """
    if not has_locks(path.parent):
        yield
        return
    from filelock import FileLock, Timeout  # 40 ms that most conversions do without

    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise NoRegularFile(
            errno.EINVAL, "a lock is a file of our own", str(path)
        )  # opening a pipe would wait for ever
    lock = FileLock(path, is_singleton=False, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if waiting is not None:
            waiting()
        _wait(lock, path, timeout)
    try:
        with suppress(OSError):  # for those who wait: the file is locked, whatever stands in it
            path.write_text(str(os.getpid()))
        yield
    finally:
        # The file stays: removing it while another process opens it would give two owners.
        lock.release()


def holder(path: Path) -> tuple[int, str]:
    """Process that says it holds a lock, and its state as Linux writes it (``T``: stopped); 0 and empty if unknown."""
    try:
        process = int(read_own(path, 64))
        stat = Path(f"/proc/{process}/stat").read_text(errors="replace")
        return process, stat.rpartition(")")[2].split()[0]
    except (OSError, ValueError, IndexError):
        return 0, ""


def _wait(lock: FileLock, path: Path, timeout: float) -> None:
    """Wait for others, but not for ever.

    Raises:
        filelock.Timeout: They still hold it.
    """
    from filelock import Timeout

    end = time.monotonic() + timeout
    stopped_since = 0.0
    while True:
        now = time.monotonic()
        try:
            lock.acquire(timeout=max(0.0, min(_TURN_S, end - now)))
            return
        except Timeout:
            stopped = holder(path)[1] in ("T", "t")
            stopped_since = (stopped_since or now) if stopped else 0.0
            if now >= end or (stopped and now - stopped_since >= HOLDER_STOPPED_S):
                raise
