"""The vendor's four calls of an inference made from Python, where there is no native library."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ort_rknn.devices.rknnrt.abi import Input, Output
from ort_rknn.devices.rknnrt.library import RuntimeLibrary, failure
from ort_rknn.devices.rknnrt.tensor_layout import IoPlan, address_of

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array

__all__ = ["InterpretedCalls"]

SHORT = -9  # RKNN_ERR_OUTPUT_INVALID


class RunningContext(Protocol):
    """The object that owns a context: one inference at a time, and how long its phases took."""

    phases: tuple[float, float, float] | None

    @property
    def use(self) -> threading.Lock:
        """Held during an inference."""


class InterpretedCalls:
    """Runs one context.

    Args:
        library: The runtime.
        handle: The context.
        io: How arrays go in and come out.
        owner: The context as an object: it is held during a run, and told the times.
    """

    def __init__(self, library: RuntimeLibrary, handle: int, io: IoPlan, owner: RunningContext) -> None:
        self._library = library
        self._handle = handle
        self._io = io
        self._owner = owner
        self._inputs = (Input * max(1, len(io.inputs)))()
        self._outputs = (Output * max(1, len(io.outputs)))()
        self._turned: list[Any] = []
        for item, given in zip(self._inputs, io.inputs, strict=False):
            item.index, item.size, item.type, item.fmt = given.index, given.size, given.type, given.fmt
            room = None
            if given.turn:
                batch, channels, points = given.turn
                room = np.empty((batch, points, channels), given.dtype)
            self._turned.append(room)
        for slot, plan in zip(self._outputs, io.outputs, strict=False):
            slot.index, slot.is_prealloc = plan.index, 1
        self._spare: dict[int, Any] = {}

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array | None]) -> None:
        """Run on prepared inputs into raw outputs.

        Raises:
            DeviceError: The inference failed.
        """
        library, handle = self._library, self._handle
        clock = time.perf_counter
        with self._owner.use:
            begun = clock()
            for item, array, plan, room in zip(self._inputs, inputs, self._io.inputs, self._turned, strict=False):
                if room is not None:
                    batch, channels, points = plan.turn or (0, 0, 0)
                    room[...] = array.reshape(batch, channels, points).transpose(0, 2, 1)
                    array = room
                item.buf = address_of(array)
            for slot, output, form in zip(self._outputs, outputs, self._io.outputs, strict=False):
                slot.want_float, slot.is_prealloc, slot.index = output is not None and form.want_float, 1, form.index
                if output is None:
                    buffer = self._spare.setdefault(form.index, ctypes.create_string_buffer(form.stored_size))
                    slot.buf, slot.size = ctypes.addressof(buffer), form.stored_size
                else:
                    slot.buf, slot.size = address_of(output), output.nbytes
            if self._io.inputs:
                library.call("rknn_inputs_set", handle, len(self._io.inputs), self._inputs)
            ready = clock()
            library.call("rknn_run", handle, None)
            ran = clock()
            library.call("rknn_outputs_get", handle, len(self._io.outputs), self._outputs, None)
            short = False
            for slot, output in zip(self._outputs, outputs, strict=False):
                # a runtime that gives its own memory whatever it is told
                if output is not None and slot.buf != address_of(output):
                    if not slot.buf or slot.size < output.nbytes:
                        short = True
                    else:
                        ctypes.memmove(address_of(output), slot.buf, output.nbytes)
            library.function("rknn_outputs_release")(handle, len(self._io.outputs), self._outputs)
            if short:
                raise failure("rknn_outputs_get", SHORT, "The runtime gave fewer bytes than the output has")
            self._owner.phases = (ready - begun, ran - ready, clock() - ran)
