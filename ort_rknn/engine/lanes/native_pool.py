"""Binding of ``native/lanes.c``: a pool of POSIX threads that run segments without the interpreter's lock."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from typing import Any

from ort_rknn.devices.rknnrt.native_calls import NativeLibrary, NativeOutcome

__all__ = ["ANY", "BUSY", "CLOSED", "DONE", "LATE", "QUEUED", "TIMEOUT", "Event", "NativePool", "table_of"]

ANY = -1
QUEUED, BUSY, CLOSED, BAD = -1, -2, -3, -4
FRONT, IF_IDLE = 1, 2
DONE, TIMEOUT, LATE = 1, 2, 3

MOST_EVENTS = 64
"""Events taken at a time: more than can come together with any queue the engine keeps."""


AT_ONCE, FOREVER = c_int64(0), c_int64(-1)


class Event(Structure):
    """``ort_rknn_event``."""

    _fields_ = (("token", c_uint64), ("kind", c_int32), ("lane", c_int32), ("outcome", NativeOutcome))


class _View(Structure):
    _fields_ = (("mark", c_uint64), ("waiting", c_uint32), ("busy", c_uint32))


def table_of(size: int) -> type[ctypes.Array[c_void_p]]:
    """The type of an array of so many pointers, all NULL when made."""
    return c_void_p * size


def pointers(addresses: Sequence[int | None]) -> ctypes.Array[c_void_p]:
    """An array of pointers for native code."""
    return (c_void_p * len(addresses))(*addresses)


def _declare(library: Any) -> None:
    void = c_void_p
    table = POINTER(void)
    for name, result, arguments in (
        ("new", void, [c_uint32, c_int64]),
        ("look", void, [void]),
        ("add", c_int, [void, c_uint32]),
        ("equip", c_int, [void, c_int, c_uint32, table, c_uint32, table, c_uint64]),
        ("unequip", c_int, [void, c_int]),
        ("shed", c_int, [void, c_int]),
        ("pinned", c_int, [void, c_uint32]),
        ("lent", c_uint64, [void, c_int, POINTER(c_int64)]),
        ("cancel", c_int, [void, c_uint64]),
        ("waits", c_int, [void, c_uint64]),
        ("works", c_int, [void, c_int]),
        ("wake", None, [void]),
        ("touch", None, [void, c_int]),
        ("wait", None, [void, c_uint64, c_int64, c_int]),
        ("close_group", None, [void, c_uint32]),
        ("retire", c_int, [void, c_int]),
        ("wait_ended", c_int, [void, c_int, c_int64]),
        ("stop", None, [void]),
        ("join", c_int, [void, c_int64]),
        ("free", None, [void]),
    ):
        function = getattr(library, f"ort_rknn_pool_{name}")
        function.restype, function.argtypes = result, arguments


class NativePool:
    """``ort_rknn_pool``; the methods are those of ``native/lanes.h``, where each is described.

    Args:
        library: The native library.
        groups: Cores.
        time_limit: Seconds a request may run; ``None`` for ever.
    """

    def __init__(self, library: NativeLibrary, groups: int, time_limit: float | None) -> None:
        if not library.pool_declared:
            _declare(library.long)
            _declare(library.short)
            library.pool_declared = True
        long, short = library.long, library.short
        self._pool: int = short.ort_rknn_pool_new(groups, int((time_limit or 0) * 1e9))
        if not self._pool:
            raise MemoryError("no memory for native lanes")
        self._view = _View.from_address(short.ort_rknn_pool_look(self._pool))
        # Undeclared, those of every inference: checking each argument costs half of the call and more (measured: a poll
        # takes 0.3 us, with checks 1.4). Their integers are C's int unless they say what else they are.
        self._run = long["ort_rknn_pool_run"]
        self._submit = short["ort_rknn_pool_submit"]
        self._take = long["ort_rknn_pool_take"]
        self._poll = short["ort_rknn_pool_take"]
        self._handle = c_void_p(self._pool)
        self._wait = long.ort_rknn_pool_wait
        self._long = long
        self._short = short
        self._events = (Event * MOST_EVENTS)()
        self._into = byref(self._events)

    @property
    def mark(self) -> int:
        """Changes whenever a waiting request was taken, and by :meth:`touch`."""
        mark: int = self._view.mark
        return mark

    @property
    def waiting(self) -> int:
        """Requests that no lane has taken."""
        waiting: int = self._view.waiting
        return waiting

    @property
    def busy(self) -> int:
        """Lanes at work."""
        busy: int = self._view.busy
        return busy

    def add(self, group: int) -> int:
        """A new lane without contexts: its number, or a negative code."""
        return int(self._long.ort_rknn_pool_add(self._pool, group))

    def equip(self, lane: int, segments: Sequence[int], segment: int = 0, table: Any = None, token: int = 0) -> int:
        """Give a lane its contexts, and its first request unless ``table`` is ``None``."""
        given = pointers(segments)
        return int(self._short.ort_rknn_pool_equip(self._pool, lane, len(segments), given, segment, table, token))

    def unequip(self, lane: int) -> bool:
        """Take a lane's contexts back: whether it has none now; else it has none when it is through."""
        return bool(self._short.ort_rknn_pool_unequip(self._pool, lane))

    def shed(self, lane: int) -> bool:
        """Whether a lane that was busy then has no contexts now, and no failure of it is still to be told."""
        return bool(self._short.ort_rknn_pool_shed(self._pool, lane))

    def pinned(self, group: int) -> int:
        """Requests that wait for one core alone."""
        return int(self._short.ort_rknn_pool_pinned(self._pool, group))

    def submit(self, group: int, segment: int, table: Any, token: int, flags: int = 0) -> int:
        """The lane that took it, ``QUEUED``, ``BUSY`` or ``CLOSED``."""
        code: int = self._submit(self._handle, group, segment, byref(table), c_uint64(token), flags)
        return code

    def run(self, group: int, segment: int, table: Any, outcome: NativeOutcome) -> int:
        """Run in this thread: the lane, ``BUSY`` or ``CLOSED``. Bytes will do for a table that names no blocks."""
        lane: int = self._run(self._handle, group, segment, table, byref(outcome))
        return lane

    def lent(self, lane: int) -> tuple[int, float]:
        """Counts what :meth:`run` did well on a lane; and seconds inside the device."""
        taken = c_int64()
        return int(self._short.ort_rknn_pool_lent(self._pool, lane, byref(taken))), taken.value / 1e9

    def cancel(self, token: int) -> bool:
        """Take a waiting request back."""
        return bool(self._short.ort_rknn_pool_cancel(self._pool, token))

    def waits(self, token: int) -> bool:
        """Whether a request waits."""
        return bool(self._short.ort_rknn_pool_waits(self._pool, token))

    def works(self, lane: int) -> bool:
        """Whether a lane has work."""
        return bool(self._short.ort_rknn_pool_works(self._pool, lane))

    def take(self, timeout: float = -1) -> list[tuple[int, int, int, NativeOutcome]]:
        """Takes what has ended: ``(token, kind, lane, outcome)``; waits ``timeout`` seconds for the first.

        One thread at a time. While it waited for the interpreter's lock more may have ended: that is taken as well,
        without giving the lock away again.
        """
        longest = FOREVER if timeout < 0 else c_int64(int(timeout * 1e9))
        n: int = self._take(self._handle, self._into, MOST_EVENTS, longest)
        taken = []
        while n > 0:
            taken += [
                (event.token, event.kind, event.lane, NativeOutcome.from_buffer_copy(event.outcome))
                for event in self._events[:n]
            ]
            n = self._poll(self._handle, self._into, MOST_EVENTS, AT_ONCE)
        return taken

    def wake(self) -> None:
        """End one :meth:`take`."""
        self._short.ort_rknn_pool_wake(self._pool)

    def touch(self, everyone: bool = False) -> None:
        """Wake the first that waits for room, or everyone."""
        self._short.ort_rknn_pool_touch(self._pool, everyone)

    def wait(self, mark: int, timeout: float | None, first: bool) -> None:
        """Wait until :attr:`mark` is not ``mark``."""
        self._wait(self._pool, mark, -1 if timeout is None else max(0, int(timeout * 1e9)), first)

    def close_group(self, group: int) -> None:
        """No more work for a core."""
        self._short.ort_rknn_pool_close_group(self._pool, group)

    def retire(self, lane: int) -> None:
        """The lane ends when it is through."""
        self._short.ort_rknn_pool_retire(self._pool, lane)

    def wait_ended(self, lane: int, timeout: float) -> bool:
        """Wait until nobody runs on a retired lane."""
        return bool(self._long.ort_rknn_pool_wait_ended(self._pool, lane, int(timeout * 1e9)))

    def stop(self) -> None:
        """All lanes end, those at work when they are through."""
        self._short.ort_rknn_pool_stop(self._pool)

    def join(self, timeout: float | None) -> int:
        """The number of lanes still at work after ``timeout`` seconds."""
        return int(self._long.ort_rknn_pool_join(self._pool, -1 if timeout is None else int(timeout * 1e9)))

    def free(self) -> None:
        """Give the memory back; after a :meth:`join` that returned 0, with nobody inside any method."""
        pool, self._pool = self._pool, 0
        self._handle = c_void_p()
        self._view = _View()
        if pool:
            self._short.ort_rknn_pool_free(pool)
