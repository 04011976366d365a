"""Binding of ``native/segment.c``: one inference as one call outside the interpreter's lock."""

from __future__ import annotations

import ctypes
import functools
import os
import sysconfig
from ctypes import POINTER, Structure, c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from ort_rknn.devices.rknnrt.library import RuntimeLibrary
from ort_rknn_converters.util.log import logger

__all__ = [
    "ABI",
    "CALLS",
    "ENVIRONMENT",
    "LACKING",
    "SPENT",
    "TABLE_HEAD",
    "Calls",
    "InputForm",
    "NativeLibrary",
    "NativeOutcome",
    "OutputForm",
    "native_library",
    "phases_of",
    "switched_off",
]

ABI = 7
"""Version of the binary interface this file is written for."""

ENVIRONMENT = "ORT_RKNN_NATIVE_LIBRARY"
"""Environment variable: the path of another ``lanes.so``, or ``off``."""

LACKING = (
    "the native lanes of ort_rknn were not built (no C compiler): Python threads serve the NPU, and cores may idle"
    " while the program is busy. Install the wheel for this machine, or a C compiler and then: pip install"
    " --force-reinstall --no-binary ort-rknn ort-rknn"
)
"""What is said where the package has no native library."""

CALLS = ("", "rknn_inputs_set", "rknn_run", "rknn_outputs_get", "rknn_outputs_release")
"""What :attr:`Outcome.call` stands for."""


SPENT, TABLE_HEAD = 1, 2
"""Words of a table, see ``ort_rknn_segment_infer``: the mask of inputs that are given back, and how many words come
before the inputs."""


class Calls(Structure):
    """``ort_rknn_calls``: addresses of the runtime's entry points."""

    _fields_ = (
        ("inputs_set", c_void_p),
        ("run", c_void_p),
        ("outputs_get", c_void_p),
        ("outputs_release", c_void_p),
    )

    @classmethod
    def of(cls, library: RuntimeLibrary) -> Calls:
        """Reads the entry points' addresses from an opened runtime library."""
        return cls(*(library.address(f"rknn_{name}") for name, _ in cls._fields_))


class InputForm(Structure):
    """``ort_rknn_input_form``: how an array goes in."""

    _fields_ = tuple(
        (name, c_uint32) for name in ("index", "size", "type", "fmt", "batch", "channels", "points", "item", "half")
    )


class OutputForm(Structure):
    """``ort_rknn_output_form``: how an output comes out."""

    _fields_ = tuple((name, c_uint32) for name in ("index", "size", "stored_size", "want_float"))


class NativeOutcome(Structure):
    """``ort_rknn_outcome``; times are CLOCK_MONOTONIC nanoseconds, as ``time.monotonic_ns``."""

    _fields_ = (
        ("code", c_int32),
        ("call", c_int32),
        ("begun", c_int64),
        ("set", c_int64),
        ("ran", c_int64),
        ("done", c_int64),
    )


def phases_of(outcome: NativeOutcome) -> tuple[float, float, float]:
    """Seconds to set inputs, to infer and to fetch outputs."""
    return (outcome.set - outcome.begun) / 1e9, (outcome.ran - outcome.set) / 1e9, (outcome.done - outcome.ran) / 1e9


class NativeLibrary:
    """An opened ``lanes.so``.

    Attributes:
        long: Its functions, called without the interpreter's lock.
        short: The same, called with it: for what never waits.
        pool_declared: Whether the lanes' functions have their argument types.
        halves: Whether it makes float16 of float32 (quickly: with the processor's own instructions).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pool_declared = False
        self.long: Any = ctypes.CDLL(str(path))
        self.short: Any = ctypes.PyDLL(str(path))
        if self.long.ort_rknn_lanes_abi() != ABI:
            raise OSError(f"{path} is of another version")
        self.halves = bool(self.short.ort_rknn_halves())
        pointers = POINTER(c_void_p)
        for library in (self.long, self.short):
            new = library.ort_rknn_segment_new
            new.restype = c_void_p
            new.argtypes = [
                POINTER(Calls),
                c_uint64,
                c_uint32,
                POINTER(InputForm),
                c_uint32,
                POINTER(OutputForm),
            ]
            library.ort_rknn_segment_free.argtypes = [c_void_p]
            library.ort_rknn_segment_free.restype = None
            library.ort_rknn_segment_infer.argtypes = [c_void_p, pointers, POINTER(NativeOutcome)]
            library.ort_rknn_segment_hold.argtypes = [c_void_p, c_int64]
            library.ort_rknn_segment_hold.restype = c_int
            library.ort_rknn_black_box.argtypes = [c_void_p]
            library.ort_rknn_black_box.restype = None
            library.ort_rknn_segment_runs.argtypes = [c_void_p]
            library.ort_rknn_segment_runs.restype = c_uint64
            library.ort_rknn_segment_let_go.argtypes = [c_void_p]
            library.ort_rknn_segment_let_go.restype = None
            library.ort_rknn_blocks_new.argtypes = [c_uint64, c_uint32]
            library.ort_rknn_blocks_new.restype = c_void_p
            library.ort_rknn_blocks_take.argtypes = [c_void_p]
            library.ort_rknn_blocks_take.restype = c_void_p
            for name in ("give", "close"):
                function = getattr(library, f"ort_rknn_blocks_{name}")
                function.argtypes, function.restype = [c_void_p], None
            library.ort_rknn_interleave.argtypes = [c_void_p, c_void_p, c_uint32, c_uint32, c_uint32]
            library.ort_rknn_interleave.restype = None
            library.ort_rknn_interleave_half.argtypes = [c_void_p, c_void_p, c_uint32, c_uint32]
            library.ort_rknn_interleave_half.restype = None


def native_library() -> NativeLibrary | None:
    """The package's native library; ``None`` when it was not built (no C compiler) or is switched off.

    Once in a process the log says that it is missing.
    """
    return None if switched_off() else _open(os.environ.get(ENVIRONMENT, ""))


def switched_off() -> bool:
    """Whether the user wants no native library."""
    return os.environ.get(ENVIRONMENT, "").lower() in ("off", "0", "none")


@functools.cache
def _open(named: str) -> NativeLibrary | None:
    candidates = [Path(named)] if named else _places()
    if not any(path.exists() for path in candidates):
        logger().warning("%s", f"{ENVIRONMENT}: there is no {named}" if named else LACKING)
    for path in candidates:
        if not path.exists():
            continue
        try:
            return NativeLibrary(path)
        except (OSError, AttributeError) as error:
            logger().warning("the native lanes of ort_rknn are not used: %s", error)
    return None


def _places() -> list[Path]:
    import ort_rknn

    roots = [Path(path) for path in ort_rknn.__path__] + [Path(sysconfig.get_path("platlib")) / "ort_rknn"]
    return [root / "native" / "lanes.so" for root in dict.fromkeys(roots)]
