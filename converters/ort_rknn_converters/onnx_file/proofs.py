"""Proves files of the cache by their digests, once a process and beside the work that opens them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from typing import Protocol, TypeAlias

from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.util.own_files import blocks_of_open, open_own

__all__ = [
    "LARGE",
    "Provable",
    "digest_of_open",
    "digest_of_own",
    "is_hashed",
    "proofs_refused",
    "prove_later",
    "settle_proofs",
]

LARGE = 1 << 20  # bytes from which a thread is worth its start; a guess, it hashes in a millisecond
_HASHED = 1 << 24  # bytes hashed at a time

_Known: TypeAlias = tuple[int, int, int, int]
_digests: dict[_Known, str] = {}
"""Files this process has hashed: device, inode, size and time stamp -> digest."""

_at_work: dict[str, threading.Lock] = {}
_table = threading.Lock()


class Provable(Protocol):
    """A file that knows what it must hash to."""

    def prove(self) -> None:
        """Compare; raises :class:`CompiledModelError` for a damaged file."""


_unsettled: dict[int, Provable] = {}
_refused: list[str] = []


def prove_later(blob: Provable, digest: Callable[[], object]) -> None:
    """Begin to hash a file on a thread of its own; :func:`settle_proofs` waits for it, compares and tells."""
    if id(blob) in _unsettled:
        return
    _unsettled[id(blob)] = blob
    with contextlib.suppress(RuntimeError):  # no thread to be had: it is proven at the end
        threading.Thread(target=_quietly, args=(digest,), name="ort_rknn hashes", daemon=True).start()


def _quietly(digest: Callable[[], object]) -> None:
    with contextlib.suppress(OSError):  # who compares will say so
        digest()


def proofs_refused() -> int:
    """Counts the proofs that failed; :func:`settle_proofs` takes the number from before anything was opened."""
    return len(_refused)


def settle_proofs(refused: int) -> None:
    """Wait until all that was opened is proven; a session is not handed out before.

    Args:
        refused: :func:`proofs_refused` at the beginning. Sessions that open at the same time wait for each other's
            files, so the one that finds a damaged file need not be the one that opened it: both are refused.

    Raises:
        CompiledModelError: Something that was opened is not what was stored.
    """
    for place, blob in list(_unsettled.items()):
        try:
            blob.prove()  # waits for the thread that hashes it, which a file's size bounds
        except CompiledModelError as error:
            _refused.append(str(error))
        _unsettled.pop(place, None)  # only now: nobody else may take it for proven before
    if len(_refused) > refused:
        raise CompiledModelError(_refused[-1])


def is_hashed(found: os.stat_result) -> bool:
    """Whether this process has the digest of a file."""
    return _known(found) in _digests


def _known(found: os.stat_result) -> _Known:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def digest_of_own(file: str) -> str:
    """The digest of a file of ours; raises :class:`OSError` when it cannot be read, or is not ours."""
    with open_own(file) as stream:
        return digest_of_open(stream.fileno(), file)


def digest_of_open(fd: int, file: str) -> str:
    """Computes the SHA-256 of an open file, once a process.

    Args:
        fd: Its descriptor.
        file: Its name: whoever comes while another thread hashes it waits for that.

    Raises:
        OSError: It cannot be read.
    """
    with _table:
        turn = _at_work.setdefault(file, threading.Lock())
    with turn:  # the other one reads a file of bounded size
        known = _known(os.fstat(fd))
        if known not in _digests:
            hashed = hashlib.sha256()
            for chunk in blocks_of_open(fd, _HASHED):  # long: each takes the interpreter's lock once
                hashed.update(chunk)
            _digests[known] = hashed.hexdigest()
        return _digests[known]


def _after_fork() -> None:
    """A thread that hashed stayed with the parent, and so did its turn."""
    global _table
    _table = threading.Lock()
    _at_work.clear()


os.register_at_fork(after_in_child=_after_fork)
