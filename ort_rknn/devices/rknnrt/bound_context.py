"""A context that reads and writes memory of the program's instead of copying: ``rknn_set_io_mem``.

Every run says which memory each input and output is; the runtime is only told what has changed since the last run on
this context. Never run on a board.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ort_rknn.devices.rknnrt.abi import NUMPY_OF, Format, Query, TensorAttr, TensorType
from ort_rknn.devices.rknnrt.library import RuntimeLibrary, failure
from ort_rknn.devices.rknnrt.memory import Keeper, NpuMemory, allocate, imported
from ort_rknn.devices.rknnrt.open import query_attrs
from ort_rknn.devices.rknnrt.tensor_layout import IoPlan
from ort_rknn.errors import DeviceError
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array, SegmentCode, TensorSpec

__all__ = ["BoundContext", "Slot"]

_TO_DEVICE, _FROM_DEVICE = 1, 2
_PATIENCE = 2.0
"""Seconds that closing waits for an inference under way. A guess."""


class Slot:
    """One input or output of a context.

    Attributes:
        spec: The ONNX value.
        dtype: What lies in the memory; the ONNX dtype where the runtime has it.
        order: ``nhwc`` or ``nchw`` for four dimensions in which that makes a difference, else ``""``.
        size: Bytes the memory must have; for an output with the rows and channels that the NPU may write beyond it,
            because the runtime takes memory that is too small without a word (1.6.0).
        refusal: Why no memory of the program's can be this slot's, or ``""``.
    """

    def __init__(self, spec: TensorSpec, attr: TensorAttr, dtype: np.dtype[Any], *, written: bool) -> None:
        self.spec = spec
        self.attr = attr
        self.dtype = dtype
        shape = spec.shape
        nhwc = len(shape) == 4 and attr.fmt == Format.NHWC
        matters = len(shape) == 4 and shape[1] != 1 and shape[2] * shape[3] != 1
        self.order = ("nhwc" if nhwc else "nchw") if matters else ""
        count = int(np.prod(shape, dtype=np.int64))
        padded = attr.w_stride if nhwc and attr.w_stride not in (0, shape[3]) else 0
        self.refusal = (
            f"the NPU keeps its rows of {shape[3]} in {padded}; a width that is a multiple of 16 has no such gaps"
            if padded
            else ""
        )
        stored = NUMPY_OF.get(int(attr.type), dtype)
        room = count * max(stored.itemsize, dtype.itemsize)
        self.size = max(room, int(attr.size), int(attr.size_with_stride)) if padded or written else room

    def view(self, memory: NpuMemory) -> Array:
        """Memory of this slot as an array of the ONNX shape."""
        return memory.view(self.dtype, self.spec.shape, nhwc=self.order == "nhwc")


class OwnContext(Keeper, Protocol):
    """The context that a bound context runs on, and closes."""

    size: int

    @property
    def code(self) -> SegmentCode:
        """The compiled segment."""

    def close(self) -> None:
        """Give it back to the runtime."""


class BoundContext:
    """The runs of a context on memory. It belongs to one thread at a time.

    Args:
        library: The runtime.
        handle: The context.
        context: The same as an object; it calls :meth:`release` when it is closed.

    Attributes:
        context: The same.
        inputs: In the order of the segment's inputs.
        outputs: In the order of the segment's outputs.

    Raises:
        DeviceError: The compiled code does not have the segment's inputs and outputs.
    """

    def __init__(self, library: RuntimeLibrary, handle: int, context: OwnContext) -> None:
        self.context = context
        self._library = library
        self._handle = handle
        self._use = threading.Lock()
        self._imports: dict[int, tuple[weakref.ref[NpuMemory], Any, bool]] = {}
        self._dead: list[int] = []
        self._rooms: dict[str, NpuMemory] = {}
        code = context.code
        of_inputs, of_outputs = Query.INPUT_ATTR, Query.OUTPUT_ATTR
        if code.dynamic:
            of_inputs, of_outputs = Query.CURRENT_INPUT_ATTR, Query.CURRENT_OUTPUT_ATTR
        ins = query_attrs(library, handle, of_inputs, len(code.inputs))
        outs = query_attrs(library, handle, of_outputs, len(code.outputs))
        io = IoPlan(code, ins, outs)
        for given in io.inputs:
            ins[given.index].type = given.type
        for form in io.outputs:
            if form.want_float:
                outs[form.index].type = TensorType.FLOAT32
        self.inputs = tuple(
            Slot(spec, ins[plan.index], plan.dtype, written=False)
            for spec, plan in zip(code.inputs, io.inputs, strict=True)
        )
        self.outputs = tuple(
            Slot(spec, outs[form.index], form.raw, written=True)
            for spec, form in zip(code.outputs, io.outputs, strict=True)
        )
        self._slots = (*self.inputs, *self.outputs)
        self._set: list[Any] = [None] * len(self._slots)

    def room(self, slot: Slot) -> NpuMemory:
        """Memory of this context's own for a slot; the same every time.

        Raises:
            DeviceError: There is none.
        """
        memory = self._rooms.get(slot.spec.name)
        if memory is None:
            memory = self._rooms[slot.spec.name] = allocate(self.context, self._handle, slot.size)
        return memory

    def run(self, memories: Sequence[NpuMemory]) -> None:
        """Run one inference.

        Args:
            memories: What each input reads, then what each output writes.

        Raises:
            DeviceError: The inference failed, or the runtime does not take the memory.
        """
        if not self._use.acquire(blocking=False):
            raise DeviceError(f"segment {self.context.code.name}: one bound context is used by two threads")
        try:
            if not self._handle:
                raise DeviceError(f"segment {self.context.code.name}: its context is closed")
            for number, memory in enumerate(memories):
                self._attach(number, memory)
            sync, handle = self._library.function("rknn_mem_sync"), self._handle
            split = len(self.inputs)
            for memory in self._set[:split]:
                self._checked("rknn_mem_sync", sync(handle, memory, _TO_DEVICE))
            self._checked("rknn_run", self._library.function("rknn_run")(handle, None))
            for memory in self._set[split:]:
                self._checked("rknn_mem_sync", sync(handle, memory, _FROM_DEVICE))
        finally:
            self._bury()
            self._use.release()

    def _checked(self, call: str, code: int) -> None:
        if code:
            raise failure(call, code, f"Segment {self.context.code.name}")

    def _attach(self, number: int, memory: NpuMemory) -> None:
        """Make it the memory of a slot, unless it is that already."""
        known = self._imports.get(id(memory))
        if known is None or known[0]() is not memory:
            self._bury()  # another object may have had the same id
            key = id(memory)

            def freed(_: object) -> None:
                self._dead.append(key)
                if self._use.acquire(blocking=False):  # else whoever runs does it
                    try:
                        self._bury()
                    finally:
                        self._use.release()

            mem = imported(self._library, self._handle, memory)
            known = weakref.ref(memory, freed), mem, memory.own is None
            self._imports[key] = known
        if self._set[number] is known[1]:
            return
        slot = self._slots[number]
        if memory.room < slot.size:
            raise DeviceError(
                f"segment {self.context.code.name}, {slot.spec.name!r}: the NPU may use {slot.size} bytes, and the "
                f"memory has {memory.room}"
            )
        slot.attr.pass_through = 0
        result = self._library.function("rknn_set_io_mem")(self._handle, known[1], ctypes.byref(slot.attr))
        if result:
            raise failure("rknn_set_io_mem", result, f"Segment {self.context.code.name}, {slot.spec.name!r}")
        self._set[number] = known[1]

    def _bury(self) -> None:
        """Let go of memory that nobody has any more; the lock is held."""
        while self._dead:
            found = self._imports.pop(self._dead.pop(), None)
            if found is not None:
                self._let_go(*found[1:])

    def _let_go(self, memory: Any, imported_here: bool) -> None:
        self._set = [None if one is memory else one for one in self._set]
        if self._handle and imported_here:
            self._library.function("rknn_destroy_mem")(self._handle, memory)

    def close(self) -> None:
        """Give the memory and the context back. May be called twice."""
        self.context.close()

    def release(self) -> bool:
        """Let go of all memory, while the context still exists. May be called twice.

        Returns:
            Whether it did. It does not while an inference hangs: the NPU may yet write there.
        """
        if not self._use.acquire(timeout=_PATIENCE):
            logger().warning("segment %s: an inference hangs; its memory is not given back", self.context.code.name)
            return False
        try:
            for _, memory, imported_here in self._imports.values():
                self._let_go(memory, imported_here)
            self._imports.clear()
            self._dead.clear()
            self._rooms.clear()
            self._handle = 0
        finally:
            self._use.release()
        return True
