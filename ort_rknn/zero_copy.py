"""Runs over a binding that the NPU does on the binding's own memory.

A session has one context for each core it may use beside those of its engine; they share the weights, are opened on
first concurrent use, and are handed from thread to thread in the order of the calls.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn.bound import deliver
from ort_rknn.devices.base import AUTO
from ort_rknn.errors import DeviceError, SessionClosed
from ort_rknn.ortvalue import NpuOrtValue, memory_for
from ort_rknn.program import NpuPart, Program, check_terminated

if TYPE_CHECKING:
    from ort_rknn.devices.rknnrt_buffers import BoundContext, Slot
    from ort_rknn.devices.rknnrt_memory import NpuMemory
    from ort_rknn.engine.engine import Engine
    from ort_rknn.iobinding import SessionIOBinding

__all__ = ["MemoryUse", "SharedRuns", "Unshareable", "why_copied"]


class Unshareable(DeviceError):
    """The NPU keeps an input or output in a way that no memory of the program's can have."""


def why_copied(program: Program, run_timeout_ms: float) -> str:
    """Why no run of a session can be on shared memory; ``""`` when they can."""
    if len(program.parts) != 1 or not isinstance(program.parts[0], NpuPart):
        return "the model is not one NPU part from its inputs to its outputs; print(session.plan) shows what it is"
    name = getattr(program.device, "name", None)
    if name != "npu":
        return f"only device 'npu' shares memory; this session's is {name!r}"
    if run_timeout_ms:
        return "run_timeout_ms is set, and only inferences of the engine's own can be timed out"
    return ""


class MemoryUse:
    """What a session does with bindings that have NPU memory.

    Args:
        shared: Runs on it; ``None`` where everything is copied.
        why: Why everything is copied.

    Attributes:
        runs: Runs on the memory itself.
        copied: Input or output name to the reason why it was copied in the last run over a binding.
    """

    def __init__(self, shared: SharedRuns | None, why: str) -> None:
        self.runs = 0
        self.copied: dict[str, str] = {}
        self._shared = shared
        self._why = why

    @classmethod
    def of(cls, engine: Engine, at_close: list[Callable[[], object]]) -> MemoryUse:
        """That of the session of an engine; ``at_close`` is told what to close then."""
        why = why_copied(engine.program, engine.options.run_timeout_ms)
        if why:
            return cls(None, why)
        shared = SharedRuns(engine.program, _masks(engine))
        at_close.append(shared.close)
        return cls(shared, "")

    def run(self, binding: SessionIOBinding, run_options: Any) -> bool:
        """Run on the binding's memory; ``False`` when that is not possible.

        Raises:
            DeviceError: The inference failed.
            SessionClosed: The session was closed.
        """
        record = binding.rknn_record
        shared = self._shared
        if shared is not None:
            check_terminated(run_options)
            inputs = record.feed(shared.input_dtypes)
            outputs = {name: record.npu_value(name) for name in record.outputs}
            fits = shared.covers(inputs, outputs)
            if fits:
                for name, value in outputs.items():
                    if value is None and record.goes_to_npu(name):
                        outputs[name] = made = shared.fresh(name)
                        record.made(name, made)
                copied: dict[str, str] = {}
                try:
                    deliver(binding, shared.run(id(binding), inputs, outputs, copied))
                except Unshareable as error:
                    self._shared, self._why = None, str(error)
                else:
                    self.runs += 1
                    self.copied = copied
                    return True
        why = self._why or "the NPU has no code for these shapes and outputs"
        self.copied = dict.fromkeys((*record.inputs, *record.outputs), why)
        return False


def _masks(engine: Engine) -> list[int]:
    """The core mask of each context.

    Where cores are named, each has one context, and whoever waits longest gets it. Else the driver chooses, and there
    are two for each core, so that it has work while Python hands over: in the engine's own way of fixed cores with two
    contexts each, a fifth thread would always share a core with the same other one.
    """
    options, lanes = engine.options, engine.plan().lanes
    if options.schedule is not None:
        return list(dict.fromkeys(lane.mask for lane in lanes))
    if options.tp_mode is not None:
        return [lane.mask for lane in lanes]
    return [AUTO] * (2 * len({lane.core for lane in lanes}))


class _Seat:
    """A context for runs on shared memory, once it is open."""

    def __init__(self, mask: int) -> None:
        self.mask = mask
        self.bound: BoundContext | None = None
        self.last = 0


class SharedRuns:
    """A session's contexts for runs on shared memory.

    Args:
        program: A program for which :func:`why_copied` finds nothing.
        masks: Core mask of each context.

    Attributes:
        input_dtypes: Numpy's dtype of each input.
    """

    def __init__(self, program: Program, masks: Iterable[int]) -> None:
        part = program.parts[0]
        assert isinstance(part, NpuPart)
        self._code = part.code
        self.input_dtypes = {spec.name: spec.dtype for spec in part.code.inputs}
        self._device: Any = program.device
        self._lock = threading.Lock()
        self._idle = [_Seat(mask) for mask in masks]
        self._waiting: deque[tuple[threading.Lock, list[_Seat]]] = deque()
        self._closed = False

    def covers(self, inputs: Mapping[str, Any], outputs: Iterable[str]) -> bool:
        """Whether these are all inputs of the NPU's part and outputs of it, at the shapes it was compiled for."""
        made = {spec.name for spec in self._code.outputs}
        return made.issuperset(outputs) and all(
            spec.name in inputs and _shape(inputs[spec.name]) == spec.shape for spec in self._code.inputs
        )

    def run(
        self,
        key: int,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, NpuOrtValue | None],
        copied: dict[str, str],
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Run once.

        Args:
            key: Whose run it is: the same context is taken for the same one if it can be.
            inputs: Name to array, or to a value in NPU memory.
            outputs: Name to the value to write; ``None`` for an array of its own.
            copied: Is told the names of what was copied, and why.

        Returns:
            The arrays.

        Raises:
            Unshareable: No run of this session can be on shared memory after all.
            DeviceError: The inference failed.
            SessionClosed: The session was closed meanwhile.
        """
        seat = self._take(key)
        try:
            bound = seat.bound
            if bound is None:
                bound = seat.bound = self._open(seat.mask)
            memories: list[NpuMemory] = []
            for slot in bound.inputs:
                memories.append(_memory_of(bound, slot, inputs[slot.spec.name], copied))
                if slot.spec.name in copied:
                    slot.view(memories[-1])[...] = _array(inputs[slot.spec.name])
            later: list[tuple[Slot, NpuMemory]] = []
            for slot in bound.outputs:
                name = slot.spec.name
                wanted = name in outputs
                memories.append(_memory_of(bound, slot, outputs.get(name), copied if wanted else {}))
                if name in copied:
                    later.append((slot, memories[-1]))
            bound.run(memories)
            arrays = {}
            for slot, memory in later:
                name = slot.spec.name
                target = outputs[name]
                if target is None:
                    target_array = arrays[name] = np.empty(slot.spec.shape, slot.spec.dtype)
                else:
                    target_array = target.numpy()
                given = slot.view(memory)
                rounds = given.dtype.kind == "f" and target_array.dtype.kind in "iu"
                target_array[...] = np.rint(given) if rounds else given
        except BaseException:
            bound, seat.bound = seat.bound, None
            if bound is not None:
                bound.close()  # what failed is opened anew
            raise
        finally:
            self._give_back(seat)
        return arrays

    def fresh(self, name: str) -> NpuOrtValue:
        """A value in NPU memory for an output."""
        spec = next(spec for spec in self._code.outputs if spec.name == name)
        return NpuOrtValue(memory_for(spec.dtype, spec.shape), spec.dtype, spec.shape, None)

    def close(self) -> None:
        """Close what is idle; the others are closed by those who use them. May be called twice."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            waiting = list(self._waiting)
            self._waiting.clear()
        for seat in idle:
            if seat.bound is not None:
                seat.bound.close()
        for gate, _ in waiting:
            gate.release()

    def _open(self, mask: int) -> BoundContext:
        context = self._device.open(self._code, mask, self._device.relative(self._code))
        try:
            bound: BoundContext = context.bind()
            refusal = next((slot.refusal for slot in (*bound.inputs, *bound.outputs) if slot.refusal), "")
            if refusal:
                raise Unshareable(refusal)
        except BaseException:
            context.close()
            raise
        return bound

    def _take(self, key: int) -> _Seat:
        with self._lock:
            if self._closed:
                raise SessionClosed("the session was closed; make a new one")
            if self._idle:
                known = (seat for seat in self._idle if seat.last == key)
                seat = next(known, None) or next((one for one in self._idle if one.bound is not None), self._idle[0])
                self._idle.remove(seat)
                seat.last = key
                return seat
            gate, given = threading.Lock(), list[_Seat]()
            gate.acquire()
            self._waiting.append((gate, given))
        gate.acquire()  # whoever is through hands his over
        if not given:
            raise SessionClosed("the session was closed; make a new one")
        given[0].last = key
        return given[0]

    def _give_back(self, seat: _Seat) -> None:
        with self._lock:
            if not self._closed:
                if self._waiting:
                    gate, given = self._waiting.popleft()
                    given.append(seat)
                    gate.release()
                else:
                    self._idle.append(seat)
                return
        if seat.bound is not None:
            seat.bound.close()


def _memory_of(bound: BoundContext, slot: Slot, value: Any, copied: dict[str, str]) -> NpuMemory:
    """The value's own memory where the NPU can use it, else the context's; says why in ``copied``."""
    name, spec = slot.spec.name, slot.spec
    copied.pop(name, None)
    if not isinstance(value, NpuOrtValue):
        copied[name] = "it is in the CPU's memory"
    elif value.dtype != slot.dtype:
        copied[name] = f"the NPU's runtime has no {spec.dtype}"
    elif slot.order and value.settle(slot.order) != slot.order:
        copied[name] = f"its memory is {value.layout}, and the NPU uses {slot.order} here"
    else:
        return value.memory
    return bound.room(slot)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape() if isinstance(value, NpuOrtValue) else value.shape)


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, NpuOrtValue) else value
