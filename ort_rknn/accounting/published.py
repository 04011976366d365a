"""A session's own page in the user's runtime folder: what it is, and how much it has done, for ``ort-rknn top``.

The page is mapped into memory, so counting costs no system call, and what it says stays right when the process is
killed. It is read by :mod:`ort_rknn.top.readings`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import os
import struct
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ort_rknn.accounting.runtime_folder import own_folder, process_start
from ort_rknn_converters.util.log import logger

__all__ = ["COUNTERS", "HEADER", "SUFFIX", "NoPage", "Page", "pid_namespace", "shower"]

HEADER = 4096
"""Bytes of JSON before the counters, padded with blanks."""

COUNTERS = ("done", "failed", "latency_ns", "active", "npu_bytes", "open_contexts", "used_ns")
"""Signed 64-bit numbers in the machine's order. ``latency_ns``: of all inferences together; ``used_ns``: since the
epoch."""

SUFFIX = ".session"

_WORK = struct.Struct("=4q")
"""The first four counters."""

_numbers = itertools.count(1)


def pid_namespace() -> str:
    """Names the space in which process numbers mean something: containers have their own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


class Page:
    """Page of one session. Any thread may count, one at a time.

    Args:
        facts: Facts that do not change: model, device, cores, class ...
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._path: Path | None = None
        self._pid = os.getpid()
        number = next(_numbers)
        room: Any = bytearray(8 * len(COUNTERS))
        about = {
            "pid": os.getpid(),
            "started": process_start(),
            "namespace": pid_namespace(),
            "program": _program(),
            "session": number,
            "opened": time.time(),
            **facts,
        }
        try:
            room = self._make(f"{os.getpid()}-{number}{SUFFIX}", about) or room
        except OSError as error:
            logger().info("ort-rknn top will not show a session: %s", error)
        self._counters = memoryview(room)[-8 * len(COUNTERS) :].cast("q")
        self._done = self._failed = self._latency = 0
        if self._path is not None:
            weakref.finalize(self, _remove, self._path, self._pid)

    def _make(self, name: str, about: Mapping[str, Any]) -> mmap.mmap | None:
        folder = own_folder()
        if folder is None:
            return None
        text = json.dumps(about).encode()
        if len(text) > HEADER:
            text = json.dumps({**about, "model": str(about.get("model"))[-200:]}).encode()
        size = HEADER + 8 * len(COUNTERS)
        path = folder / name
        path.unlink(missing_ok=True)  # of a process that had the number before
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, size)  # a page that cannot be had would end the process when it is touched
            os.pwrite(file, text.ljust(HEADER), 0)
            self._path = path
            return mmap.mmap(file, size)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)

    def show_active(self, active: int) -> None:
        """Show how many inferences are under way."""
        self._counters[3] = active

    def count(self, seconds: float, failed: bool = False, active: int = -1) -> None:
        """Count an inference that took so long, waiting included.

        Args:
            seconds: Its time.
            failed: Whether it failed.
            active: Inferences under way now; -1: as many as before.
        """
        counters = self._counters
        if failed:
            self._failed += 1
        else:
            self._done += 1
            self._latency += int(seconds * 1e9)
        _WORK.pack_into(counters, 0, self._done, self._failed, self._latency, counters[3] if active < 0 else active)
        counters[6] = time.time_ns()

    def show_memory(self, size: int, contexts: int) -> None:
        """Show the NPU memory of what is open."""
        self._counters[4], self._counters[5] = size, contexts

    def close(self) -> None:
        """Remove the page. May be called twice."""
        if self._path is not None:
            _remove(self._path, self._pid)


class NoPage:
    """Page of a session that is not shown."""

    def show_active(self, active: int) -> None:
        """Shows nothing."""

    def count(self, seconds: float, failed: bool = False, active: int = -1) -> None:
        """Counts nothing."""

    def close(self) -> None:
        """Removes nothing."""


def shower(page: Page, holder: Any) -> Callable[[], None]:
    """Returns a function that shows a holder's memory on a page, and does not keep the holder alive."""
    known = weakref.ref(holder)

    def show() -> None:
        there = known()
        if there is not None:
            page.show_memory(*there.memory())

    return show


def _program() -> str:
    return Path(sys.argv[0]).name if sys.argv and sys.argv[0] not in ("", "-c") else "python"


def _remove(path: Path, pid: int) -> None:
    if os.getpid() == pid:  # a fork's child has a copy of this object
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
