"""Binding of ``native/arbiter.c``: which inference of which session goes to the driver next.

The driver keeps one first-in-first-out queue a core, never interrupts a job, and its public source reads no priority.
So inferences are held back before they reach it: the rules are written in ``native/arbiter.h``.
"""

from __future__ import annotations

import os
import time
import weakref
from ctypes import c_int, c_int64, c_uint32, c_void_p
from typing import TYPE_CHECKING, Any

from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.devices.rknnrt.native_calls import NativeLibrary

__all__ = ["CLASSES", "KEY_VARIABLE", "SHARED_KEY", "Arbiter", "Gate", "shared_key"]

CLASSES: dict[str, int] = {"high": 0, "normal": 1, "medium": 1, "low": 2}
"""Class of each word of the option ``priority``; ``medium`` is the vendor's word for ``normal``."""

KEY_VARIABLE = "ORT_RKNN_ARBITER_KEY"
"""Environment variable: another key for the semaphores, for programs that shall not share with the others."""

SHARED_KEY = 0x524B4E50
"""Key of the System V semaphores of ``arbiter="machine"``: "RKNP"."""


def shared_key() -> int:
    """The key of the semaphores that processes share."""
    try:
        return int(os.environ.get(KEY_VARIABLE, ""), 0) or SHARED_KEY
    except ValueError:
        return SHARED_KEY


def _declare(library: NativeLibrary) -> None:
    for functions in (library.long, library.short):
        for name, result, arguments in (
            ("arbiter_new", c_void_p, [c_uint32, c_int]),
            ("arbiter_reserve", None, [c_void_p, c_int]),
            ("arbiter_gate", c_void_p, [c_void_p, c_uint32, c_int, c_uint32]),
            ("arbiter_taken", c_int, [c_void_p]),
            ("gate_try", c_int, [c_void_p]),
            ("gate_enter", c_int64, [c_void_p]),
            ("gate_leave", None, [c_void_p, c_int64]),
            ("gate_forfeit", None, [c_void_p]),
            ("gate_free", None, [c_void_p]),
            ("segment_guard", None, [c_void_p, c_void_p]),
        ):
            function = getattr(functions, f"ort_rknn_{name}")
            function.restype, function.argtypes = result, arguments


class Arbiter:
    """Tokens of one device, in native code: it lives as long as the process.

    Args:
        library: The native library.
        cores: NPU cores.
        scope: ``process``, or ``machine`` for tokens that all programs of this machine share that say so too.
    """

    def __init__(self, library: NativeLibrary, cores: int, scope: str = "process") -> None:
        _declare(library)
        self._library = library
        self.scope = scope
        key = shared_key() if scope == "machine" else 0
        self._arbiter = library.short.ort_rknn_arbiter_new(cores, key)
        if not self._arbiter and key:
            logger().warning(
                'arbiter="machine" does not work here (no System V semaphores, or those with key %#x are not ours to '
                "use): this process takes no turns with others, the driver's queues decide",
                key,
            )
            self.scope = "process"
            self._arbiter = library.short.ort_rknn_arbiter_new(cores, 0)
        if not self._arbiter:
            raise MemoryError("no memory for the arbiter of the NPU")

    @property
    def taken(self) -> int:
        """Tokens taken now."""
        return int(self._library.short.ort_rknn_arbiter_taken(self._arbiter))

    def reserve(self, more: int) -> None:
        """Keep so many cores more (or fewer) for class ``high``."""
        if more:
            self._library.short.ort_rknn_arbiter_reserve(self._arbiter, more)

    def guard(self, segment: int, party: int, priority: str, weight: int) -> None:
        """Let every inference of a native segment take tokens; the segment must be idle."""
        gate = self._library.short.ort_rknn_arbiter_gate(self._arbiter, party, CLASSES[priority], weight)
        if gate:
            self._library.short.ort_rknn_segment_guard(segment, gate)

    def gate(self, priority: str, weight: int, party: int = 0) -> Gate:
        """A gate for inferences of one thread at a time that do not run in a native segment.

        Args:
            priority: Their class.
            weight: Cores that one takes.
            party: Number of the session: among equals the one with the fewest tokens goes first.
        """
        gate = self._library.short.ort_rknn_arbiter_gate(self._arbiter, party, CLASSES[priority], weight)
        return Gate(self._library, gate)


def _free(library: NativeLibrary, gate: int, pid: int) -> None:
    if os.getpid() == pid:  # a forked child has no tokens, and a lock of it may be held for ever
        library.short.ort_rknn_gate_free(gate)


class Gate:
    """Tokens taken by ``with gate:`` around one inference."""

    def __init__(self, library: NativeLibrary, gate: int) -> None:
        if not gate:
            raise MemoryError("no memory for a gate to the NPU")
        self._library = library
        self._gate = gate
        self._begun = 0
        weakref.finalize(self, _free, library, gate, os.getpid()).atexit = False

    def __enter__(self) -> Gate:
        # Only who must wait gives the interpreter's lock away: to get it back may take longer than an inference.
        if not self._library.short.ort_rknn_gate_try(self._gate):
            self._library.long.ort_rknn_gate_enter(self._gate)
        self._begun = time.monotonic_ns()
        return self

    def forfeit(self) -> None:
        """The inference hangs: others go on."""
        self._library.short.ort_rknn_gate_forfeit(self._gate)

    def __exit__(self, *_: Any) -> None:
        self._library.short.ort_rknn_gate_leave(self._gate, time.monotonic_ns() - self._begun)
