"""Zero copy: memory that the program and the NPU both see, bound to a context once and run as often as one likes.

A buffer's :attr:`NpuBuffer.array` has the ONNX shape whatever the NPU's order in memory is, so that ``array[...] = x``
converts the layout on the way and nothing else is ever copied. Buffers can also be made of a dma-buf's file descriptor
(a camera's, a decoder's). Never run on a board.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn.devices.rknnrt_abi import NUMPY_OF, Format, Query, TensorAttr, TensorType
from ort_rknn.devices.rknnrt_io import IoPlan
from ort_rknn.devices.rknnrt_library import RuntimeLibrary, failure
from ort_rknn.errors import DeviceError

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array, SegmentCode
    from ort_rknn.devices.rknnrt_context import NpuContext

__all__ = ["BoundContext", "NpuBuffer"]

_TO_DEVICE, _FROM_DEVICE = 1, 2
_PATIENCE = 2.0
"""Seconds that closing waits for an inference under way. A guess."""

_log = logging.getLogger("ort_rknn")


class NpuBuffer:
    """One input's or output's memory.

    Attributes:
        name: The ONNX value's name.
        array: The memory as an array of the ONNX shape; for 4-D inputs a transposed view of NHWC memory. Its dtype is
            the ONNX one where the runtime has it, else what the runtime takes or gives (float32 for float64).
        fd: File descriptor of the memory, for other devices; -1 when the runtime has none.
        size: Bytes.
    """

    def __init__(self, library: RuntimeLibrary, handle: int, name: str, size: int, fd: int | None) -> None:
        self.name = name
        self.array: Array = np.empty(0)
        self._library = library
        self._handle = handle
        self._mapping: mmap.mmap | None = None
        if fd is None:
            self.memory = library.function("rknn_create_mem")(handle, size)
            call = "rknn_create_mem"
        else:
            call = "rknn_create_mem_from_fd"
            try:
                if fd < 0:  # mmap would take that for fresh memory
                    raise ValueError("it is negative")
                self._mapping = mmap.mmap(fd, size)
            except (OSError, ValueError) as error:
                raise DeviceError(
                    f"buffer {name!r}: the file descriptor {fd} cannot be mapped with {size} bytes: {error}"
                ) from None
            address = ctypes.addressof(ctypes.c_char.from_buffer(self._mapping))
            self.memory = library.function(call)(handle, fd, address, size, 0)
        if not self.memory:
            self._unmap()
            raise DeviceError(f"{call} failed: no memory of {size} bytes for {name!r}", call=call)
        self.fd = int(self.memory.contents.fd)
        self.size = size

    def view(self, dtype: np.dtype[Any], shape: tuple[int, ...], nhwc: bool) -> None:
        """Make :attr:`array`."""
        count = int(np.prod(shape, dtype=np.int64))
        raw = (ctypes.c_ubyte * self.size).from_address(self.memory.contents.virt_addr)
        flat = np.frombuffer(memoryview(raw), dtype, count)
        if nhwc:
            n, c, h, w = shape
            self.array = flat.reshape(n, h, w, c).transpose(0, 3, 1, 2)
        else:
            self.array = flat.reshape(shape)

    def sync(self, mode: int) -> None:
        """Make what one side wrote visible to the other."""
        self._library.call("rknn_mem_sync", self._handle, self.memory, mode)

    def close(self) -> None:
        """Give the memory back; :attr:`array` is empty from then on. Arrays taken from it must not be used any more."""
        memory, self.memory = self.memory, None
        if memory:
            self.array = np.empty(0)
            self._library.function("rknn_destroy_mem")(self._handle, memory)
            self._unmap()

    def _unmap(self) -> None:
        if self._mapping is not None:
            mapping, self._mapping = self._mapping, None
            try:
                mapping.close()
            except BufferError:  # the ctypes object that told the address still looks at it; freed with it
                return


class BoundContext:
    """A context whose inputs and outputs are buffers. It belongs to one thread at a time.

    Args:
        library: The runtime.
        handle: The context.
        code: The segment.
        fds: Value name -> file descriptor of a dma-buf to take instead of fresh memory.
        context: The context they are bound to; it calls :meth:`release` when it is closed.

    Attributes:
        context: The same.
        keep: Something that must live as long as this.
        inputs: Value name -> buffer, to be filled before :meth:`run`.
        outputs: Value name -> buffer, filled by :meth:`run`.

    Raises:
        DeviceError: A buffer cannot be made or bound, or ``fds`` names what does not exist.
    """

    def __init__(
        self,
        library: RuntimeLibrary,
        handle: int,
        code: SegmentCode,
        fds: Mapping[str, int],
        context: NpuContext,
    ) -> None:
        from ort_rknn.devices.rknnrt_context import query_attrs

        unknown = set(fds) - {spec.name for spec in (*code.inputs, *code.outputs)}
        if unknown:
            raise DeviceError(f"segment {code.name} has no input or output {', '.join(sorted(unknown))}")
        self.code = code
        self.inputs: dict[str, NpuBuffer] = {}
        self.outputs: dict[str, NpuBuffer] = {}
        self._library = library
        self._handle = handle
        self.context = context
        self.keep: object = None
        self._use = threading.Lock()
        of_inputs, of_outputs = Query.INPUT_ATTR, Query.OUTPUT_ATTR
        if code.dynamic:
            of_inputs, of_outputs = Query.CURRENT_INPUT_ATTR, Query.CURRENT_OUTPUT_ATTR
        ins = query_attrs(library, handle, of_inputs, len(code.inputs))
        outs = query_attrs(library, handle, of_outputs, len(code.outputs))
        io = IoPlan(code, ins, outs)
        try:
            for spec, plan in zip(code.inputs, io.inputs, strict=True):
                attr = ins[plan.index]
                attr.type = plan.type
                nhwc = attr.fmt == Format.NHWC and len(spec.shape) == 4
                self.inputs[spec.name] = self._bind(attr, spec.name, plan.dtype, spec.shape, nhwc, fds)
            for spec, form in zip(code.outputs, io.outputs, strict=True):
                attr = outs[form.index]
                if form.want_float:
                    attr.type = TensorType.FLOAT32
                self.outputs[spec.name] = self._bind(attr, spec.name, form.raw, spec.shape, form.nhwc, fds)
        except BaseException:
            self.release()
            raise

    def _bind(
        self,
        attr: TensorAttr,
        name: str,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        nhwc: bool,
        fds: Mapping[str, int],
    ) -> NpuBuffer:
        width = shape[3] if len(shape) == 4 else 0
        if width and attr.fmt == Format.NHWC and attr.w_stride not in (0, width):
            raise DeviceError(
                f"{name!r}: the NPU keeps its rows of {width} in {attr.w_stride}, which buffers here do not do; "
                "give it by run(), or compile a model whose width is a multiple of 16"
            )
        stored = NUMPY_OF.get(int(attr.type), dtype)
        size = max(int(np.prod(shape, dtype=np.int64)) * stored.itemsize, int(attr.size_with_stride), int(attr.size))
        buffer = NpuBuffer(self._library, self._handle, name, size, fds.get(name))
        try:
            attr.pass_through = 0
            result = self._library.function("rknn_set_io_mem")(self._handle, buffer.memory, ctypes.byref(attr))
            if result:
                raise failure("rknn_set_io_mem", result, f"Segment {self.code.name}, {name!r}")
            buffer.view(dtype, shape, nhwc)
        except BaseException:
            buffer.close()
            raise
        return buffer

    def run(self) -> None:
        """Run one inference on what the input buffers hold; the output buffers hold the results afterwards.

        Raises:
            DeviceError: The inference failed.
        """
        if not self._use.acquire(blocking=False):
            raise DeviceError(f"segment {self.code.name}: one bound context is used by two threads")
        try:
            if not self._handle:
                raise DeviceError(f"segment {self.code.name}: its context is closed")
            for buffer in self.inputs.values():
                buffer.sync(_TO_DEVICE)
            result = self._library.function("rknn_run")(self._handle, None)
            if result:
                raise failure("rknn_run", result, f"Segment {self.code.name}")
            for buffer in self.outputs.values():
                buffer.sync(_FROM_DEVICE)
        finally:
            self._use.release()

    def close(self) -> None:
        """Give the buffers and the context back. May be called twice."""
        self.context.close()
        self.keep = None

    def __enter__(self) -> BoundContext:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def release(self) -> bool:
        """Give the buffers back, while the context still exists. May be called twice.

        Returns:
            Whether they are free. They are not while an inference hangs: the NPU may yet write there.
        """
        if not self._use.acquire(timeout=_PATIENCE):
            _log.warning("segment %s: an inference hangs; its memory is not given back", self.code.name)
            return False
        try:
            self._handle = 0
            for buffer in (*self.inputs.values(), *self.outputs.values()):
                buffer.close()
        finally:
            self._use.release()
        return True
