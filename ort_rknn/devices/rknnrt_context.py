"""One segment on one context of librknnrt."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn.devices.base import SegmentCode
from ort_rknn.devices.native_segment import CALLS, Calls, NativeLibrary, Outcome
from ort_rknn.devices.rknnrt_abi import (
    Custom,
    Format,
    InOutNum,
    Input,
    MemSize,
    Output,
    PerfDetail,
    PerfRun,
    Query,
    SdkVersion,
    TensorAttr,
)
from ort_rknn.devices.rknnrt_halves import HalfInputs
from ort_rknn.devices.rknnrt_io import IoPlan, address_of, matched, runtime_shape
from ort_rknn.devices.rknnrt_library import RuntimeLibrary, failure
from ort_rknn.errors import DeviceError

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array
    from ort_rknn.devices.rknnrt_buffers import BoundContext

__all__ = ["NpuContext", "query", "query_attrs"]

HOLD_NS = 2_000_000_000
"""How long a duplicate waits for the inference under way before it loads its own weights instead. A guess."""


def query(library: RuntimeLibrary, handle: int, command: Query, info: Any) -> Any:
    """Ask the runtime; gives ``info`` back, filled in.

    Raises:
        DeviceError: It does not answer this.
    """
    code = library.function("rknn_query")(handle, command, ctypes.byref(info), ctypes.sizeof(info))
    if code:
        raise failure(f"rknn_query({command.name})", code)
    return info


def query_attrs(library: RuntimeLibrary, handle: int, command: Query, count: int) -> list[TensorAttr]:
    """All attributes that one command gives."""
    return [query(library, handle, command, TensorAttr(index=index)) for index in range(count)]


def _choose_shapes(
    library: RuntimeLibrary, handle: int, code: SegmentCode, attrs: Sequence[TensorAttr]
) -> list[TensorAttr]:
    """Take one of the sets of input shapes the code was compiled for; gives the inputs as they are then."""
    for spec, attr in matched(code, "input", code.inputs, attrs):
        shape = runtime_shape(spec.shape)
        if len(shape) == 4 and attr.fmt == Format.NHWC:
            shape = (shape[0], shape[2], shape[3], shape[1])
        attr.n_dims = len(shape)
        attr.dims[: len(shape)] = shape
    result = library.function("rknn_set_input_shapes")(handle, len(attrs), (TensorAttr * len(attrs))(*attrs))
    if result:
        shapes = ", ".join(f"{spec.name}:{'x'.join(map(str, spec.shape))}" for spec in code.inputs)
        raise failure("rknn_set_input_shapes", result, f"Segment {code.name} was not compiled for {shapes}")
    return query_attrs(library, handle, Query.CURRENT_INPUT_ATTR, len(attrs))


class NpuContext:
    """An opened segment. See :class:`ort_rknn.devices.base.Context`.

    Args:
        library: The runtime.
        handle: Its context, which this object destroys.
        code: The segment.
        mask: Core mask in effect.
        native: The native library, or ``None`` to make each call from Python.
        nhwc: See :class:`~ort_rknn.devices.rknnrt_io.IoPlan`.
        halves: Whether the runtime takes float16 for float32.

    Attributes:
        io: How arrays go in and come out.
        native: The native library it uses, if any.
        segment: Address of the native segment (``ort_rknn_segment``), for native lanes; 0 without a native library.
        phases: Seconds the last :meth:`run` took to set inputs, to infer and to fetch outputs; ``None`` before.
    """

    def __init__(
        self,
        library: RuntimeLibrary,
        handle: int,
        code: SegmentCode,
        mask: int,
        *,
        native: NativeLibrary | None,
        nhwc: bool,
        halves: HalfInputs,
    ) -> None:
        self.code = code
        self.phases: tuple[float, float, float] | None = None
        self.segment = 0
        self.on_close: Callable[[], None] | None = None
        self._library = library
        self._handle = handle
        self._mask = mask
        self.native = native
        self._use = threading.Lock()
        self._bound: BoundContext | None = None
        counts = query(library, handle, Query.IN_OUT_NUM, InOutNum())
        inputs = query_attrs(library, handle, Query.INPUT_ATTR, counts.n_input)
        if code.dynamic:
            inputs = _choose_shapes(library, handle, code, inputs)
        command = Query.CURRENT_OUTPUT_ATTR if code.dynamic else Query.OUTPUT_ATTR
        outputs = query_attrs(library, handle, command, counts.n_output)

        def plan(half: bool) -> IoPlan:
            return IoPlan(code, inputs, outputs, nhwc=nhwc, halves=half and native is not None and native.halves)

        self.io = halves.plan(library, handle, plan)
        if native is not None:
            calls = Calls.of(library)
            self.segment = native.short.ort_rknn_segment_new(
                ctypes.byref(calls),
                handle,
                counts.n_input,
                self.io.input_forms(),
                counts.n_output,
                self.io.output_forms(),
            )
            if not self.segment:
                raise MemoryError("no memory for a native segment")
        self._runner: Callable[[Sequence[Array], Sequence[Array | None]], None]
        self._runner = self._run_native if self.segment else _Interpreted(library, handle, self.io, self).run

    @property
    def handle(self) -> int:
        """The runtime's context; 0 when closed."""
        return self._handle

    @property
    def mask(self) -> int:
        """Core mask in effect."""
        return self._mask

    def run(self, inputs: Sequence[Array], wanted: Sequence[bool] | None = None) -> list[Array | None]:
        """Run one inference, see :meth:`ort_rknn.devices.base.Context.run`."""
        if not self._handle:
            raise DeviceError(f"segment {self.code.name}: its context is closed")
        if self._bound:
            raise DeviceError(f"segment {self.code.name}: its context is bound to buffers")
        io = self.io
        given = io.prepare(inputs)
        outputs = io.room(wanted)
        self._runner(given, outputs)
        return io.finish(outputs)

    def _run_native(self, inputs: Sequence[Array], outputs: Sequence[Array | None]) -> None:
        outcome = Outcome()
        self.run_raw(inputs, outputs, outcome)
        if outcome.code:
            raise self.failed(outcome)
        self.phases = phases_of(outcome)

    def bind_buffers(self, fds: Mapping[str, int] | None = None) -> BoundContext:
        """Give the context memory of its own for inputs and outputs, and run it without copies from then on.

        This context then belongs to the one returned, which closes it; :meth:`run` refuses.

        Args:
            fds: Value name -> file descriptor of a dma-buf to use as that input or output.

        Raises:
            DeviceError: The context is closed or bound already, or a buffer cannot be made.
        """
        from ort_rknn.devices.rknnrt_buffers import BoundContext

        if not self._handle or self._bound:
            raise DeviceError(
                f"segment {self.code.name}: its context is {'bound already' if self._bound else 'closed'}"
            )
        self._bound = BoundContext(self._library, self._handle, self.code, fds or {}, self)
        return self._bound

    def run_raw(self, inputs: Sequence[Array], outputs: Sequence[Array | None], outcome: Outcome) -> None:
        """Run on prepared inputs into raw outputs; what came of it is in ``outcome``. Native contexts only."""
        assert self.native is not None
        ins = (ctypes.c_void_p * len(inputs))(*map(address_of, inputs))
        outs = (ctypes.c_void_p * len(outputs))(*[None if array is None else address_of(array) for array in outputs])
        self.native.long.ort_rknn_segment_run(self.segment, ins, outs, ctypes.byref(outcome))

    def failed(self, outcome: Outcome) -> DeviceError:
        """The error that a native run ended with."""
        if not outcome.call:
            return DeviceError(f"segment {self.code.name}: no memory left", code=outcome.code)
        return failure(CALLS[outcome.call], outcome.code, f"Segment {self.code.name}, core mask {self._mask:#x}")

    def duplicate(self) -> int | None:
        """A new handle that shares the weights; ``None`` when the context is busy for too long (it may hang).

        Raises:
            DeviceError: The runtime refused.
        """
        if not self._hold():
            return None
        try:
            if not self._handle:
                return None
            source, new = ctypes.c_uint64(self._handle), ctypes.c_uint64()
            self._library.call("rknn_dup_context", ctypes.byref(source), ctypes.byref(new))
            return new.value
        finally:
            self._let_go()

    def _hold(self) -> bool:
        if self.segment and self.native is not None:
            return bool(self.native.long.ort_rknn_segment_hold(self.segment, HOLD_NS))
        return self._use.acquire(timeout=HOLD_NS / 1e9)

    def _let_go(self) -> None:
        if self.segment and self.native is not None:
            self.native.short.ort_rknn_segment_let_go(self.segment)
        else:
            self._use.release()

    @property
    def use(self) -> threading.Lock:
        """Held while Python code runs an inference on this context."""
        return self._use

    def memory(self) -> dict[str, int]:
        """Bytes of weights, internal tensors and SRAM, as the runtime counts them."""
        sizes = query(self._library, self._handle, Query.MEM_SIZE, MemSize())
        return {
            "weights": sizes.total_weight_size,
            "internal": sizes.total_internal_size,
            "dma": sizes.total_dma_allocated_size,
            "sram": sizes.total_sram_size,
            "sram_free": sizes.free_sram_size,
        }

    def custom_string(self) -> str:
        """The text that was put into the ``.rknn`` when it was made."""
        answer = query(self._library, self._handle, Query.CUSTOM_STRING, Custom())
        text: bytes = answer.string
        return text.decode(errors="replace")

    def versions(self) -> tuple[str, str]:
        """Versions of the runtime and of the kernel driver, e.g. ``("2.3.2 (...)", "0.9.8")``."""
        answer = query(self._library, self._handle, Query.SDK_VERSION, SdkVersion())
        return answer.api_version.decode(errors="replace"), answer.drv_version.decode(errors="replace")

    def perf_detail(self) -> str:
        """The runtime's table of time per layer of the last run; the device must have been made with ``perf=True``."""
        answer = query(self._library, self._handle, Query.PERF_DETAIL, PerfDetail())
        return ctypes.string_at(answer.perf_data, answer.data_len).decode(errors="replace") if answer.perf_data else ""

    def run_duration(self) -> float:
        """Seconds the NPU says it took for the last run."""
        return float(query(self._library, self._handle, Query.PERF_RUN, PerfRun()).run_duration) / 1e6

    def describe(self) -> Mapping[str, Any]:
        """Core mask, memory, versions."""
        if not self._handle:
            return {"segment": self.code.name, "closed": True}
        runtime, driver = self.versions()
        facts: dict[str, Any] = {"segment": self.code.name, "core_mask": self._mask, "runtime": runtime}
        facts |= {"driver": driver, "native": bool(self.segment)}
        with contextlib.suppress(DeviceError):  # old runtimes do not answer it
            facts["memory"] = self.memory()
        return facts

    def close(self) -> None:
        """Destroy the context. May be called twice."""
        if self._bound is not None and not self._bound.release():
            return  # it hangs: closing may be tried again
        self._bound = None
        handle, self._handle = self._handle, 0
        if not handle:
            return
        self._library.function("rknn_destroy")(handle)
        if self.segment and self.native is not None:
            self.native.short.ort_rknn_segment_free(self.segment)
            self.segment = 0
        if self.on_close is not None:
            self.on_close()


def phases_of(outcome: Outcome) -> tuple[float, float, float]:
    """Seconds to set inputs, to infer and to fetch outputs."""
    return (outcome.set - outcome.begun) / 1e9, (outcome.ran - outcome.set) / 1e9, (outcome.done - outcome.ran) / 1e9


class _Interpreted:
    """The vendor's four calls made from Python, where there is no native library."""

    def __init__(self, library: RuntimeLibrary, handle: int, io: IoPlan, owner: NpuContext) -> None:
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
                slot.want_float = output is not None and form.want_float
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
            library.function("rknn_outputs_release")(handle, len(self._io.outputs), self._outputs)
            self._owner.phases = (ready - begun, ran - ready, clock() - ran)
