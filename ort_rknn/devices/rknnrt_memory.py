"""Memory that the program, the NPU and other devices see alike: a dma-buf, mapped here, imported by each context.

It belongs to no context: what the runtime allocates is taken over by its file descriptor, so that values outlive the
session they were made for. Never run on a board.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn.errors import DeviceError

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array
    from ort_rknn.devices.rknnrt_library import RuntimeLibrary

__all__ = ["NpuMemory", "allocate", "imported"]


class NpuMemory:
    """A part of a dma-buf. It is freed when nobody uses it or an array over it any more, in whatever thread.

    Args:
        fd: The file descriptor; it is duplicated, the caller keeps its own.
        size: Bytes.
        offset: Where in the dma-buf they begin.

    Attributes:
        fd: A file descriptor of the dma-buf that lives as long as this object.
        size: Bytes.
        offset: The same as given.
        base: The address at which the dma-buf is mapped.
        address: Where the bytes begin.

    Raises:
        DeviceError: The file descriptor cannot be mapped with so many bytes.
    """

    def __init__(self, fd: int, size: int, offset: int = 0) -> None:
        if size < 1 or offset < 0:
            raise DeviceError(f"memory shared with the NPU needs at least one byte, not {size} at {offset}")
        try:
            if fd < 0:  # mmap would take that for fresh memory
                raise ValueError("it is negative")
            mapping = mmap.mmap(fd, offset + size)
            self.fd = os.dup(fd)
        except (OSError, ValueError) as error:
            raise DeviceError(
                f"the file descriptor {fd} cannot be mapped with {offset + size} bytes: {error}"
            ) from None
        weakref.finalize(self, os.close, self.fd).atexit = False
        self.size = size
        self.offset = offset
        self._bytes = np.frombuffer(mapping, np.uint8)
        self.base = int(self._bytes.__array_interface__["data"][0])
        self.address = self.base + offset

    def view(self, dtype: np.dtype[Any], shape: tuple[int, ...], *, nhwc: bool = False) -> Array:
        """The memory as an array of an ONNX shape; ``nhwc``: of one whose last but first axis comes last in memory."""
        count = int(np.prod(shape, dtype=np.int64))
        flat = self._bytes[self.offset : self.offset + count * dtype.itemsize].view(dtype)
        if not nhwc:
            return flat.reshape(shape)
        n, c, h, w = shape
        return flat.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def allocate(library: RuntimeLibrary, handle: int, size: int) -> NpuMemory:
    """Memory from the runtime, taken over from the context it is asked of.

    Args:
        library: The runtime.
        handle: A context that nobody else uses meanwhile.
        size: Bytes.

    Raises:
        DeviceError: There is none, or it has no file descriptor.
    """
    memory = library.function("rknn_create_mem")(handle, size)
    if not memory:
        raise DeviceError(f"rknn_create_mem failed: no memory of {size} bytes", call="rknn_create_mem")
    try:
        return NpuMemory(int(memory.contents.fd), size)
    finally:
        library.function("rknn_destroy_mem")(handle, memory)


def imported(library: RuntimeLibrary, handle: int, memory: NpuMemory) -> Any:
    """The same memory as a ``rknn_tensor_mem`` of a context, to be destroyed before the context is.

    Raises:
        DeviceError: The runtime refuses.
    """
    found = library.function("rknn_create_mem_from_fd")(
        handle, memory.fd, ctypes.c_void_p(memory.base), memory.size, memory.offset
    )
    if not found:
        raise DeviceError(
            f"rknn_create_mem_from_fd failed: the runtime does not take the memory behind {memory.fd}",
            call="rknn_create_mem_from_fd",
        )
    return found
