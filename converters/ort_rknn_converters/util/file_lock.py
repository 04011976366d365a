"""Locks between processes, also where the file system has none: NFS without its lock daemon, some FUSE and 9p mounts.

There everybody works as if alone: what is written is renamed into place, so nobody reads half of it; only the sharing
of work is off, and two processes may do the same.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from ort_rknn_converters.util.log import logger

__all__ = ["has_locks", "held", "without_locks"]

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
def held(path: Path, *, timeout: float = -1, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock for the length of a ``with`` block; whoever dies gives it back. Its file stays.

    Args:
        path: The lock's file; its folder exists.
        timeout: Seconds to wait for others; below 0: as long as it takes.
        waiting: Called once if there is somebody to wait for.

    Raises:
        filelock.Timeout: Others still hold it.
        OSError: The folder cannot be written.
    """
    if not has_locks(path.parent):
        yield
        return
    from filelock import FileLock, Timeout  # 40 ms that most conversions do without

    lock = FileLock(path, is_singleton=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if waiting is not None:
            waiting()
        lock.acquire(timeout=timeout)
    try:
        yield
    finally:
        # The file stays: removing it while another process opens it would give two owners.
        lock.release()
