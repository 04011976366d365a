"""Memory that the program, the NPU and other devices see alike.

It is a dma-buf, mapped here and imported by each context; so it belongs to no context, and values outlive the session
they were made for. Where the runtime gives or takes no file descriptors, it is the runtime's own allocation, whose
context is kept as long. Never run on a board.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ort_rknn.errors import DeviceError

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array
    from ort_rknn.devices.rknnrt.library import RuntimeLibrary

__all__ = ["Keeper", "NpuMemory", "allocate", "imported"]


PAGE = 4096
"""Bytes: a dma-buf has whole pages (the kernel's), so that much may be written of what is allocated."""


class NpuMemory:
    """A part of a dma-buf. It is freed when nobody uses it or an array over it any more, in whatever thread.

    Args:
        fd: The file descriptor; it is duplicated, the caller keeps its own.
        size: Bytes.
        offset: Where in the dma-buf they begin.
        room: Bytes from there on that are nobody else's; default: ``size``.

    Attributes:
        fd: A file descriptor of the dma-buf that lives as long as this object; -1 without one.
        size: Bytes.
        offset: The same as given.
        room: Bytes from the offset on that may be written: more than ``size`` where whole pages were allocated for it.
        base: The address at which the dma-buf is mapped.
        address: Where the bytes begin.
        own: The runtime's ``rknn_tensor_mem`` where there is no file descriptor.

    Raises:
        DeviceError: The file descriptor cannot be mapped with so many bytes.
    """

    def __init__(self, fd: int, size: int, offset: int = 0, room: int = 0) -> None:
        room = max(room, size)
        if size < 1 or offset < 0:
            raise DeviceError(f"memory shared with the NPU needs at least one byte, not {size} at {offset}")
        try:
            if fd < 0:  # mmap would take that for fresh memory
                raise ValueError("it is negative")
            mapping = mmap.mmap(fd, offset + room)
            self.fd = os.dup(fd)
        except (OSError, OverflowError, ValueError) as error:
            raise DeviceError(
                f"the file descriptor {fd} cannot be mapped with {offset + room} bytes: {error}"
            ) from None
        weakref.finalize(self, os.close, self.fd).atexit = False
        self._take(np.frombuffer(mapping, np.uint8), size, offset, room)

    @classmethod
    def of_runtime(cls, memory: Any, size: int, room: int, give_back: Callable[[], object]) -> NpuMemory:
        """Wraps memory that the runtime has allocated, without a file descriptor.

        Args:
            memory: A ``rknn_tensor_mem``.
            size: Bytes.
            room: Bytes that were allocated.
            give_back: Called when nobody uses it any more.
        """
        kind: Any = type("RuntimeBytes", (ctypes.c_ubyte * room,), {})  # of a class of its own, to be told of its end
        held = kind.from_address(memory.contents.virt_addr)
        weakref.finalize(held, give_back).atexit = False
        made = cls.__new__(cls)
        made.fd = -1
        made._take(np.frombuffer(memoryview(held), np.uint8), size, 0, room)
        made.own = memory
        return made

    def _take(self, content: Array, size: int, offset: int, room: int) -> None:
        self.size = size
        self.room = room
        self.offset = offset
        self.own: Any = None
        self._bytes = content
        self.base = int(content.__array_interface__["data"][0])
        self.address = self.base + offset

    def view(self, dtype: np.dtype[Any], shape: tuple[int, ...], *, nhwc: bool = False) -> Array:
        """The memory as an array of an ONNX shape; ``nhwc``: of one whose last but first axis comes last in memory."""
        count = int(np.prod(shape, dtype=np.int64))
        flat = self._bytes[self.offset : self.offset + count * dtype.itemsize].view(dtype)
        if not nhwc:
            return flat.reshape(shape)
        n, c, h, w = shape
        return flat.reshape(n, h, w, c).transpose(0, 3, 1, 2)


class Keeper(Protocol):
    """A context that allocates."""

    @property
    def library(self) -> RuntimeLibrary:
        """Runtime library that the memory belongs to."""

    def keep(self) -> None:
        """Memory of it is about: it is not destroyed before that is given back."""

    def give_back(self, memory: Any) -> None:
        """Undo that, in whatever thread."""


def allocate(keeper: Keeper, handle: int, size: int) -> NpuMemory:
    """Memory from the runtime.

    Args:
        keeper: The context it is asked of.
        handle: The same for the runtime; nobody else uses it meanwhile.
        size: Bytes.

    Raises:
        DeviceError: There is none.
    """
    library = keeper.library
    room = -(-size // PAGE) * PAGE
    memory = library.function("rknn_create_mem")(handle, room)
    if not memory:
        raise DeviceError(f"rknn_create_mem failed: no memory of {size} bytes", call="rknn_create_mem")
    if not memory.contents.virt_addr or memory.contents.size < size:
        found = memory.contents
        said = f"{found.size} bytes at address {found.virt_addr or 0:#x}"
        library.function("rknn_destroy_mem")(handle, memory)
        raise DeviceError(f"rknn_create_mem gave {said} for {room} bytes", call="rknn_create_mem")
    room = min(room, int(memory.contents.size))
    taken_over = _taken_over(library, handle, memory, size, room)
    if taken_over is not None:
        library.function("rknn_destroy_mem")(handle, memory)
        return taken_over
    keeper.keep()
    return NpuMemory.of_runtime(memory, size, room, partial(keeper.give_back, memory))


def _taken_over(library: RuntimeLibrary, handle: int, memory: Any, size: int, room: int) -> NpuMemory | None:
    """Imports memory by its file descriptor; ``None`` where that does not lead there, or nothing can be imported."""
    found, fd = memory.contents, _descriptor(memory)
    if fd < 0 or not library.has("rknn_create_mem_from_fd"):
        return None
    try:
        mine = NpuMemory(fd, size, found.offset, room)
        library.function("rknn_destroy_mem")(handle, imported(library, handle, mine))
    except DeviceError:
        return None
    first, seen = ctypes.c_ubyte.from_address(found.virt_addr), mine.view(np.dtype(np.uint8), (size,))
    for mark in (0x5A, 0xA5, 0):
        first.value = mark
        if seen[0] != mark:
            return None
    return mine


def _descriptor(memory: Any) -> int:
    return int(memory.contents.fd)


def imported(library: RuntimeLibrary, handle: int, memory: NpuMemory) -> Any:
    """Imports memory as a ``rknn_tensor_mem`` of a context.

    Unless it is :attr:`NpuMemory.own` it must be destroyed before the context is.

    Raises:
        DeviceError: The runtime refuses.
    """
    if memory.own is not None:
        return memory.own
    found = library.function("rknn_create_mem_from_fd")(
        handle, memory.fd, ctypes.c_void_p(memory.base), memory.room, memory.offset
    )
    if not found:
        raise DeviceError(
            f"rknn_create_mem_from_fd failed: the runtime does not take the memory behind {memory.fd}",
            call="rknn_create_mem_from_fd",
        )
    return found
