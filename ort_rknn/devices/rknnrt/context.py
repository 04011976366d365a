"""One segment on one context of librknnrt."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ort_rknn.accounting.ledger import LEDGER, Entry
from ort_rknn.devices.base import SegmentCode
from ort_rknn.devices.rknnrt.abi import Custom, InOutNum, MemSize, PerfDetail, PerfRun, Query
from ort_rknn.devices.rknnrt.library import RuntimeLibrary, failure
from ort_rknn.devices.rknnrt.native_calls import CALLS, TABLE_HEAD, Calls, NativeLibrary, NativeOutcome, phases_of
from ort_rknn.devices.rknnrt.open import HalfInputs, check_counts, choose_shapes, query, query_attrs, query_versions
from ort_rknn.devices.rknnrt.python_calls import InterpretedCalls
from ort_rknn.devices.rknnrt.tensor_layout import IoPlan, addresses_of
from ort_rknn.devices.time_limit import CLOSE_SECONDS, within
from ort_rknn.errors import DeviceError

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array
    from ort_rknn.devices.rknnrt.bound_context import BoundContext
    from ort_rknn.devices.rknnrt.memory import NpuMemory

__all__ = ["NpuContext"]

HOLD_NS = 2_000_000_000
"""How long a duplicate waits for the inference under way before it loads its own weights instead. A guess."""

_families = threading.Lock()
"""Held while it is looked at, and changed, who shares whose weights."""


class NpuContext:
    """An opened segment. See :class:`ort_rknn.devices.base.Context`.

    Args:
        library: The runtime.
        handle: Its context, which this object destroys.
        code: The segment.
        mask: Core mask in effect.
        native: The native library, or ``None`` to make each call from Python.
        halves: Whether the runtime takes float16 for float32.
        lender: The context whose weights it shares.
        measures: Whether it was opened to collect times of layers.

    Attributes:
        io: How arrays go in and come out.
        native: The native library it uses, if any.
        segment: Address of the native segment (``ort_rknn_segment``), for native lanes; 0 without a native library.
        library: The runtime.
        lender: The context whose weights it shares, if any.
        size: Bytes of NPU memory it takes.
        entry: Its line in the account of these, until it is destroyed.
        borrows: Whether by ``RKNN_FLAG_SHARE_WEIGHT_MEM``, and not as a duplicate.
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
        halves: HalfInputs,
        lender: NpuContext | None = None,
        measures: bool = False,
    ) -> None:
        self.code = code
        self.phases: tuple[float, float, float] | None = None
        self.segment = self.size = 0
        self._measures = measures
        self._closed = False
        self._borrowers = 0
        self._unused: list[Any] = []
        self.lender = lender
        self.borrows = False
        self.entry: Entry | None = None
        self.library = library
        self._handle = handle
        self._mask = mask
        self.native = native
        self._use = threading.Lock()
        self._calls = threading.Lock()
        self._bound: BoundContext | None = None
        counts = query(library, handle, Query.IN_OUT_NUM, InOutNum())
        check_counts(code, counts.n_input, counts.n_output)
        inputs = query_attrs(library, handle, Query.INPUT_ATTR, counts.n_input)
        if code.dynamic:
            inputs = choose_shapes(library, handle, code, inputs)
        command = Query.CURRENT_OUTPUT_ATTR if code.dynamic else Query.OUTPUT_ATTR
        outputs = query_attrs(library, handle, command, counts.n_output)

        def plan(half: bool) -> IoPlan:
            halves = half and native is not None and native.halves
            return IoPlan(code, inputs, outputs, halves=halves, native=native)

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
        self._runner = self._run_native if self.segment else InterpretedCalls(library, handle, self.io, self).run

    @property
    def handle(self) -> int:
        """The runtime's context; 0 when closed."""
        return 0 if self._closed else self._handle

    @property
    def mask(self) -> int:
        """Core mask in effect."""
        return self._mask

    def run(self, inputs: Sequence[Array], wanted: Sequence[bool] | None = None) -> list[Array | None]:
        """Run one inference, see :meth:`ort_rknn.devices.base.Context.run`."""
        if self._closed:
            raise DeviceError(f"segment {self.code.name}: its context is closed")
        if self._bound:
            raise DeviceError(f"segment {self.code.name}: its context is bound to memory")
        io = self.io
        given = io.prepare(inputs)
        outputs = io.allocate_outputs(wanted)
        self._runner(given, outputs)
        return io.finish(outputs)

    def _run_native(self, inputs: Sequence[Array], outputs: Sequence[Array | None]) -> None:
        outcome = NativeOutcome()
        words = (0,) * TABLE_HEAD + tuple(addresses_of((*inputs, *outputs)))
        self.run_table((ctypes.c_void_p * len(words))(*words), outcome)
        if outcome.code:
            raise self.failed(outcome)
        self.phases = phases_of(outcome)

    def bind(self) -> BoundContext:
        """Run on memory that is shared with the program from now on; :meth:`run` refuses then.

        This context belongs to the one returned, which closes it.

        Raises:
            DeviceError: The context is closed or bound already.
        """
        from ort_rknn.devices.rknnrt.bound_context import BoundContext

        if not self.handle or self._bound:
            state = "bound already" if self._bound else "closed"
            raise DeviceError(f"segment {self.code.name}: its context is {state}")
        self._bound = BoundContext(self.library, self._handle, self)
        return self._bound

    def allocate(self, size: int) -> NpuMemory | None:
        """Memory that the program and the NPU share; ``None`` when this context is busy for too long, or closed.

        Raises:
            DeviceError: The runtime has none.
        """
        from ort_rknn.devices.rknnrt.memory import allocate

        if self._bound or not self._hold():
            return None
        try:
            return allocate(self, self._handle, size) if self.handle else None
        finally:
            self._let_go()

    def run_table(self, table: Any, outcome: NativeOutcome) -> None:
        """Run what a table says, see ``ort_rknn_segment_infer``. Native contexts only."""
        assert self.native is not None
        self.native.long.ort_rknn_segment_infer(self.segment, table, ctypes.byref(outcome))

    def failed(self, outcome: NativeOutcome) -> DeviceError:
        """The error that a native run ended with."""
        if not outcome.call:
            return DeviceError(f"segment {self.code.name}: no memory left", code=outcome.code)
        return failure(CALLS[outcome.call], outcome.code, f"Segment {self.code.name}, core mask {self._mask:#x}")

    def duplicate(self) -> int | None:
        """A new handle that shares the weights; ``None`` when the context is busy for too long (it may hang).

        What is made of it must be told whom it shares them with: ``lender=``.

        Raises:
            DeviceError: The runtime refused.
        """

        def duplicate(handle: int) -> int:
            new = ctypes.c_uint64()
            self.library.call("rknn_dup_context", ctypes.byref(ctypes.c_uint64(handle)), ctypes.byref(new))
            return new.value

        return self.lend(duplicate)

    @property
    def lends(self) -> bool:
        """Whether it is open, and runs for the engine: what is bound to memory keeps to its one thread."""
        return not self._closed and self._bound is None

    @property
    def loaded(self) -> bool:
        """Whether its weights are in memory, and can be lent: even where it is closed, while others share them."""
        return bool(self._handle) and self._bound is None and (not self._closed or self._borrowers > 0)

    def lend(self, open_with: Callable[[int], int]) -> int | None:
        """Call what opens another context with this one's weights, given its handle; gives the new handle.

        From then on this one is destroyed only after the other: the vendor does not say whether it may be before.
        ``None``: this context is bound to memory, busy for too long, or closed and nobody shares its weights.
        """
        with _families:
            if self._bound is not None or (self._closed and not self._borrowers):
                return None
            self._borrowers += 1
        new = None
        try:
            if self._hold():
                try:
                    new = open_with(self._handle)
                finally:
                    self._let_go()
        finally:
            if new is None:
                self.taken_back()
        return new

    def taken_back(self) -> None:
        """One who shares the weights is gone."""
        with _families:
            self._borrowers -= 1
            last = self._closed and not self._borrowers
        if last:
            self._destroy()

    def keep(self) -> None:
        """Memory of it is about, see ``rknnrt_memory.Keeper``."""
        with _families:
            self._borrowers += 1

    def give_back(self, memory: Any) -> None:
        """That memory is not used any more: it is freed now, or by whoever is at work here."""
        self._unused.append(memory)
        if self._hold(0):
            self._let_go()
        self.taken_back()

    def _sweep(self) -> None:
        while self._unused:
            self.library.function("rknn_destroy_mem")(self._handle, self._unused.pop())

    def _hold(self, patience_ns: int | None = None) -> bool:
        """Keep inferences and other calls off; ``False`` when one is under way for too long."""
        patience = HOLD_NS if patience_ns is None else patience_ns
        if self._calls.acquire(timeout=patience / 1e9):
            if self._hold_runs(patience):
                return True
            self._calls.release()
        return False

    def _let_go(self) -> None:
        self._sweep()
        self._let_runs_go()
        self._calls.release()

    def _hold_runs(self, patience_ns: int) -> bool:
        if self.segment and self.native is not None:
            return bool(self.native.long.ort_rknn_segment_hold(self.segment, patience_ns))
        return self._use.acquire(timeout=patience_ns / 1e9)

    def _let_runs_go(self) -> None:
        if self.segment and self.native is not None:
            self.native.short.ort_rknn_segment_let_go(self.segment)
        elif self._use.locked():
            self._use.release()

    @property
    def use(self) -> threading.Lock:
        """Held while Python code runs an inference."""
        return self._use

    def memory(self) -> dict[str, int]:
        """Bytes of weights, internal tensors and SRAM, as the runtime counts them."""
        sizes = query(self.library, self._alive(), Query.MEM_SIZE, MemSize())
        return {
            "weights": sizes.total_weight_size,
            "internal": sizes.total_internal_size,
            "dma": sizes.total_dma_allocated_size,
            "sram": sizes.total_sram_size,
            "sram_free": sizes.free_sram_size,
        }

    def custom_string(self) -> str:
        """The text that was put into the ``.rknn`` when it was made."""
        text: bytes = query(self.library, self._alive(), Query.CUSTOM_STRING, Custom()).string
        return text.decode(errors="replace")

    def versions(self) -> tuple[str, str]:
        """Versions of the runtime and of the kernel driver, e.g. ``("2.3.2 (...)", "0.9.8")``."""
        return query_versions(self.library, self._alive())

    def _alive(self) -> int:
        """The handle, for questions: the runtime crashes when it is asked about a context that was destroyed."""
        if not self._handle:
            raise DeviceError(f"segment {self.code.name}: its context is closed")
        return self._handle

    @property
    def has_run(self) -> bool:
        """Whether an inference ended on it, by whatever way: before that the runtime tells times that are garbage."""
        if self.segment and self.native is not None and self.native.short.ort_rknn_segment_runs(self.segment):
            return True
        return self.phases is not None

    def perf_detail(self) -> str:
        """The runtime's table of time per layer of the last run, for devices made with ``collect_perf=True``.

        Empty for others, and before a run.
        """
        if not (self._measures and self.has_run):
            return ""
        answer = query(self.library, self._alive(), Query.PERF_DETAIL, PerfDetail())
        return ctypes.string_at(answer.perf_data, answer.data_len).decode(errors="replace") if answer.perf_data else ""

    def run_duration(self) -> float:
        """Seconds the NPU says it took for the last run.

        Raises:
            DeviceError: There was none.
        """
        if not self.has_run:
            raise DeviceError(f"segment {self.code.name}: its context has not run yet", call="rknn_query")
        return float(query(self.library, self._alive(), Query.PERF_RUN, PerfRun()).run_duration) / 1e6

    def describe(self) -> Mapping[str, Any]:
        """Core mask, versions, memory; what the NPU says of the last run. Waits for an inference under way."""
        facts: dict[str, Any] = {"segment": self.code.name, "core_mask": self._mask, "native": bool(self.segment)}
        if self._closed or not self._hold():
            return facts | {"closed" if self._closed else "busy": True}
        try:
            facts["runtime"], facts["driver"] = self.versions()
            for key, ask in (("memory", self.memory), ("run_s", self.run_duration), ("layers", self.perf_detail)):
                with contextlib.suppress(DeviceError):  # old runtimes do not answer, nor do those not asked to measure
                    facts[key] = ask()
        finally:
            self._let_go()
        return facts

    def close(self) -> None:
        """Destroy the context, or have it destroyed as soon as nobody shares its weights. May be called twice."""
        if self._bound is not None and not self._bound.release():
            return  # it hangs: closing may be tried again
        if not self._calls.acquire(timeout=HOLD_NS / 1e9):
            return
        try:  # two may close at once: who comes second finds it closed, before it touches what the first destroys
            if self._closed or not self._hold_runs(0):
                return  # or the same: whoever is inside would come back to what is gone
            self._let_runs_go()
            self._bound = None
            with _families:
                self._closed = True
                lent = self._borrowers > 0
        finally:
            self._calls.release()
        if not lent:
            self._destroy()

    def _destroy(self) -> None:
        held = self._calls.acquire(timeout=HOLD_NS / 1e9)  # who gives memory back at this moment holds it, too
        self._sweep()
        handle, self._handle, segment, self.segment = self._handle, 0, self.segment, 0
        if held:
            self._calls.release()
        destroy = self.library.function("rknn_destroy")
        try:
            within(
                CLOSE_SECONDS,
                self.library.call_under_way,
                lambda: destroy(handle),
                str,
                f"segment {self.code.name} was to be closed",
            )
        except DeviceError:
            return  # it was said; the memory it shares stays, for the runtime may yet read it
        if self.entry is not None:
            LEDGER.forget(self.entry)
        if segment and self.native is not None:
            self.native.short.ort_rknn_segment_free(segment)
        if self.lender is not None:
            self.lender.taken_back()
