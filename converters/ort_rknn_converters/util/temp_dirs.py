"""Temporary folders that outlive no owner, killed or not.

All lie in one folder of this user's, ``ort_rknn-<user id>`` where temporary files go, which nobody else may enter: what
is found there is ours. Each is locked while its process lives; the next process that makes one removes those whose lock
is free.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path

from ort_rknn_converters.util.file_lock import without_locks

__all__ = ["hold", "new", "remove", "sweep", "temporary"]

STALE_S = 3600.0  # a guess: no folder of a dead process is younger than the longest start of a live one

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def new(prefix: str) -> tuple[Path, BufferedWriter]:
    """Make a folder where temporary files go, and lock it.

    Returns:
        The folder, and its lock: whoever closes that gives the folder up.

    Raises:
        OSError: There is no room.
    """
    for _ in range(3):  # somebody may remove the folder above between two steps
        with suppress(FileNotFoundError):
            directory = Path(tempfile.mkdtemp(prefix=prefix, dir=_parent()))
            return directory, _locked(directory)
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    return directory, _locked(directory)


def _parent() -> Path | None:
    """Finds or makes the folder for all temporary folders of this user; ``None`` where somebody else has its name."""
    parent = Path(tempfile.gettempdir()) / f"ort_rknn-{os.geteuid()}"
    with suppress(FileExistsError):
        parent.mkdir(0o700)
    found = parent.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077:
        return parent
    return None


def _locked(directory: Path) -> BufferedWriter:
    lock = os.fdopen(os.open(directory / "lock", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if not without_locks(error):
            lock.close()
            raise  # a folder that nobody else knows of cannot be locked by others
    return lock


def sweep(parent: Path, prefix: str) -> None:
    """Remove the folders of processes that were killed before they could.

    Only real folders of this user, in a folder that only this user may enter, are opened: nothing is followed, made or
    waited for.
    """
    with suppress(OSError):
        above = os.open(parent, _FOLDER)
        try:
            found = os.fstat(above)
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
                return  # where others may write, anything may stand under our names
            for name in os.listdir(above):  # noqa: PTH208 - a folder that is open
                if name.startswith(prefix):
                    _remove_abandoned(parent / name, above)
        finally:
            os.close(above)


def _remove_abandoned(directory: Path, above: int) -> None:
    with suppress(OSError):
        folder = os.open(directory.name, _FOLDER, dir_fd=above)
        try:
            found = os.fstat(folder)
            if found.st_uid != os.geteuid() or time.time() - found.st_mtime < STALE_S:
                return
            lock = os.open("lock", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                if stat.S_ISREG(os.fstat(lock).st_mode):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(lock)
        finally:
            os.close(folder)


@contextmanager
def temporary(prefix: str) -> Iterator[Path]:
    """A folder for the length of a ``with`` block, or of the process. What others left behind goes first."""
    directory, lock = new(prefix)
    try:
        with lock:
            sweep(directory.parent, prefix)
            yield directory
    finally:
        remove(directory)


def _leave(parent: Path) -> None:
    """Remove the folder above when it is empty: a program that has ended leaves nothing behind."""
    if parent.name == f"ort_rknn-{os.geteuid()}":
        with suppress(OSError):
            parent.rmdir()


def remove(directory: Path) -> None:
    """Remove a folder that :func:`new` made, with all it holds."""
    shutil.rmtree(directory, ignore_errors=True)
    _leave(directory.parent)


def hold(prefix: str) -> Path:
    """A folder that is this process's own until it ends; the caller sees to its removal by :func:`remove`."""
    directory, lock = new(prefix)
    os.dup(lock.fileno())  # locked until the process ends; a file object would be called unclosed then
    lock.close()
    sweep(directory.parent, prefix)
    return directory
