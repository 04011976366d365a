"""Temporary folders that outlive no owner, killed or not.

Each is locked while its process lives; the next process that makes one removes those whose lock is free.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path

from ort_rknn_converters.util.file_lock import without_locks

__all__ = ["hold", "new", "sweep", "temporary"]

STALE_S = 3600.0  # a guess: no folder of a dead process is younger than the longest start of a live one


def new(prefix: str) -> tuple[Path, BufferedWriter]:
    """Make a folder where temporary files go, and lock it.

    Returns:
        The folder, and its lock: whoever closes that gives the folder up.

    Raises:
        OSError: There is no room.
    """
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    return directory, _locked(directory)


def _locked(directory: Path) -> BufferedWriter:
    lock = (directory / "lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if not without_locks(error):
            lock.close()
            raise  # a folder that nobody else knows of cannot be locked by others
    return lock


def sweep(parent: Path, prefix: str) -> None:
    """Remove the folders of processes that were killed before they could."""
    for directory in parent.glob(prefix + "*"):
        with suppress(OSError):
            if time.time() - directory.stat().st_mtime < STALE_S:
                continue
            with (directory / "lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def temporary(prefix: str) -> Iterator[Path]:
    """A folder for the length of a ``with`` block, or of the process. What others left behind goes first."""
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
        directory = Path(name)
        with _locked(directory):
            sweep(directory.parent, prefix)
            yield directory


def hold(prefix: str) -> Path:
    """A folder that is this process's own until it ends; the caller sees to its removal."""
    directory, lock = new(prefix)
    os.dup(lock.fileno())  # locked until the process ends; a file object would be called unclosed then
    lock.close()
    sweep(directory.parent, prefix)
    return directory
