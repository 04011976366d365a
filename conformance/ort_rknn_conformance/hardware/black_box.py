"""A file that says in which calls of the runtime a process is, and still says so when the process is dead."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ort_rknn.devices.rknnrt.abi import prototypes
from ort_rknn.devices.rknnrt.device import NpuDevice
from ort_rknn.devices.rknnrt.native_calls import CALLS, native_library

__all__ = ["BlackBox"]

_NAMES = tuple(sorted(prototypes()))
_NATIVE_AT = 64  # places of four bytes: the calls from Python first, then the native ones
_PLACES = _NATIVE_AT + 16


class BlackBox:
    """Numbers of calls under way, shared between processes.

    Args:
        path: The file; made when it is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.exists():
            self.path.write_bytes(bytes(4 * _PLACES))
        with self.path.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), 4 * _PLACES)
        self._calls = (ctypes.c_uint32 * _PLACES).from_buffer(self._mapped)

    def record(self, device: NpuDevice) -> None:
        """Note every call that a device makes from now on, those of the native lanes too."""
        device.library.trace(self._noted)
        native = native_library()
        if native is not None:
            native.short.ort_rknn_black_box(ctypes.addressof(self._calls) + 4 * _NATIVE_AT)

    def _noted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        calls, place = self._calls, _NAMES.index(name)

        def call(*arguments: Any) -> Any:
            calls[place] += 1
            try:
                return function(*arguments)
            finally:
                calls[place] -= 1

        return call

    def clear(self) -> None:
        """Forget the calls of a process that is gone."""
        ctypes.memset(self._calls, 0, 4 * _PLACES)

    def under_way(self) -> str:
        """The calls in words, ``rknn_run (3 at once)``; empty when there are none."""
        found = dict.fromkeys(_NAMES, 0)
        for place, name in enumerate(_NAMES):
            found[name] += self._calls[place]
        for place, name in enumerate(CALLS):
            if name:
                found[name] += self._calls[_NATIVE_AT + place]
        return ", ".join(f"{name} ({n} at once)" if n > 1 else name for name, n in found.items() if n)
