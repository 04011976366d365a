"""One load of compiled code at a time: whoever opens what another thread is loading waits, then shares its weights."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

__all__ = ["Code", "code_key", "one_load"]


class Code(Protocol):
    """Compiled code: :class:`ort_rknn.devices.base.Blob`."""

    @property
    def path(self) -> str | None:
        """The file that holds it, or ``None``."""

    def read(self) -> bytes:
        """The bytes."""


class _Turn:
    """A lock that lives as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


_turns: weakref.WeakValueDictionary[Any, _Turn] = weakref.WeakValueDictionary()
_guard = threading.Lock()


def code_key(blob: Code) -> Any:
    """Names compiled code without reading all of it: equal for equal code, and by a rare chance for other code."""
    try:
        if blob.path is not None:
            found = Path(blob.path).stat()
            return found.st_dev, found.st_ino
    except OSError:
        pass
    data = blob.read()
    return len(data), crc32(data[:4096]), crc32(data[-4096:])


@contextmanager
def one_load(blob: Code, seconds: float) -> Iterator[None]:
    """Holds the turn to load this code.

    Args:
        blob: The code.
        seconds: How long to wait for those who load it; then it is loaded beside them.
    """
    key = code_key(blob)
    with _guard:
        turn = _turns.get(key)
        if turn is None:
            turn = _turns[key] = _Turn()
    taken = turn.lock.acquire(timeout=seconds)
    try:
        yield
    finally:
        if taken:
            turn.lock.release()


def _forked() -> None:
    """In the child nobody loads: those who did stayed in the parent."""
    global _guard
    _guard = threading.Lock()
    _turns.clear()


os.register_at_fork(after_in_child=_forked)
