"""Runs over a binding that the NPU does on the binding's own memory.

A session has contexts for them beside those of its engine, as many for each core as it is told; they share the weights,
are opened on first concurrent use, and are handed from thread to thread in the order of the calls.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn.accounting.ledger import LEDGER, opening_for
from ort_rknn.devices.program import BoundNpuStep, Program
from ort_rknn.errors import DeviceError, SessionClosed
from ort_rknn.ort_types.ortvalue import NpuOrtValue, memory_for

if TYPE_CHECKING:
    from ort_rknn.devices.rknnrt.bound_context import BoundContext, Slot
    from ort_rknn.devices.rknnrt.memory import NpuMemory

__all__ = ["OnRun", "SharedRuns", "Unshareable"]

CROWDED_S = 10.0
"""How long contexts for a crowd stay in use after the last time that they were needed. A guess."""

OnRun = Callable[[int, float, tuple[float, float, float]], None]
"""Takes the core (-1 where the driver chose), when a run began, and its seconds to copy in, infer and copy out."""


class Unshareable(DeviceError):
    """The NPU keeps an input or output in a way that no memory of the program's can have."""


class _Core:
    """Contexts that share one core mask.

    Attributes:
        mask: The core mask.
        number: The core; -1 where the mask is not one core.
        crowd: Whether it is for more threads than there are other contexts.
        idle: Seats without a run.
        busy: Runs under way or waiting for the core.
        since: When the first of these began.
    """

    def __init__(self, mask: int, seats: int, *, crowd: bool = False) -> None:
        self.mask = mask
        self.crowd = crowd
        self.number = mask.bit_length() - 1 if mask.bit_count() == 1 else -1
        self.idle = [_Seat(self) for _ in range(seats)]
        self.busy = 0
        self.since = 0.0


class _Seat:
    """A context for runs on shared memory, once it is open."""

    def __init__(self, core: _Core) -> None:
        self.core = core
        self.bound: BoundContext | None = None
        self.gate: Any = None
        self.last = 0


class SharedRuns:
    """A session's contexts for runs on shared memory.

    Args:
        program: A program that is one NPU step, on device ``npu``.
        cores: Core mask, and how many contexts may share it.
        crowd: The same, in place of ``cores`` while more threads run than those have contexts.
        gate: Makes what a context's runs go through, for so many cores: they take turns with other sessions.

    Attributes:
        input_dtypes: Numpy's dtype of each input.
    """

    def __init__(
        self,
        program: Program,
        cores: Iterable[tuple[int, int]],
        crowd: Iterable[tuple[int, int]] = (),
        gate: Callable[[int], Any] | None = None,
    ) -> None:
        step = program.steps[0]
        assert isinstance(step, BoundNpuStep)
        self._code = step.code
        self.input_dtypes = {spec.name: spec.dtype for spec in step.code.inputs}
        self._device: Any = program.device
        self._gate = gate
        self._lock = threading.Lock()
        self._cores = [_Core(mask, seats) for mask, seats in cores]
        self._few = sum(len(core.idle) for core in self._cores)
        self._cores += [_Core(mask, seats, crowd=True) for mask, seats in crowd]
        self._crowds = any(core.crowd for core in self._cores)
        self._crowded_at = -math.inf
        self._seats = [seat for core in self._cores for seat in core.idle]
        self._mean = 0.0
        self._waiting: deque[tuple[threading.Lock, list[_Seat]]] = deque()
        self._closed = False
        self.last_used = time.monotonic()
        LEDGER.enter(self)

    def covers(self, inputs: Mapping[str, Any], outputs: Iterable[str]) -> bool:
        """Whether these inputs have the shapes of the compiled code, and these outputs are its."""
        made = {spec.name for spec in self._code.outputs}
        return made.issuperset(outputs) and all(_shape(inputs[spec.name]) == spec.shape for spec in self._code.inputs)

    def run(
        self,
        key: int,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, NpuOrtValue | None],
        copied: dict[str, str],
        on_run: OnRun | None = None,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Run once.

        Args:
            key: Whose run it is: the same context is taken for the same one if it can be.
            inputs: Name to array, or to a value in NPU memory.
            outputs: Name to the value to write; ``None`` for an array of its own.
            copied: Is told the names of what was copied, and why.
            on_run: Called after a good run.

        Returns:
            The arrays.

        Raises:
            Unshareable: No run of this session can be on shared memory after all.
            DeviceError: The inference failed.
            SessionClosed: The session was closed meanwhile.
        """
        seat = self._take(key)
        begun = time.perf_counter()
        try:
            bound = seat.bound
            if bound is None:
                bound = seat.bound = self._open(seat.core.mask)
            if seat.gate is None and self._gate is not None:
                seat.gate = self._gate(max(1, seat.core.mask.bit_count()))
            read = [_filled(bound, slot, inputs[slot.spec.name], copied) for slot in bound.inputs]
            written = []
            for slot in bound.outputs:
                name = slot.spec.name
                written.append(_memory_of(bound, slot, outputs.get(name), copied if name in outputs else {}))
            ready = time.perf_counter()
            with seat.gate or nullcontext():
                bound.run([*read, *written])
            ran = time.perf_counter()
            arrays: dict[str, np.ndarray[Any, Any]] = {}
            for slot, memory in zip(bound.outputs, written, strict=True):
                name = slot.spec.name
                if name in copied:
                    target = outputs[name]
                    if target is None:
                        arrays[name] = np.empty(slot.spec.shape, slot.spec.dtype)
                    _copy_out(slot, memory, arrays[name] if target is None else target.numpy())
            if on_run is not None:
                on_run(seat.core.number, begun, (ready - begun, ran - ready, time.perf_counter() - ran))
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
            idle = [seat for core in self._cores for seat in core.idle]
            for core in self._cores:
                core.idle = []
            waiting = list(self._waiting)
            self._waiting.clear()
        for seat in idle:
            if seat.bound is not None:
                seat.bound.close()
        for gate, _ in waiting:
            gate.release()

    def give_back(self, *, everything: bool) -> int:
        """Close contexts without a run, see :class:`ort_rknn.accounting.ledger.Holder`; none of them is the first."""
        del everything
        given = []
        with self._lock:
            for seat in (seat for core in self._cores for seat in core.idle):
                if seat.bound is not None:
                    given.append(seat.bound)
                    seat.bound = None
        for bound in given:
            bound.close()
        return len(given)

    asleep = False
    """Whether it could open contexts for others: those of the session's lanes do."""

    def open_briefly(self) -> Any:
        """Never asked for."""
        raise NotImplementedError

    def memory(self) -> tuple[int, int]:
        """Bytes of NPU memory of the contexts that are open, and how many there are."""
        opened = [bound.context.size for seat in self._seats if (bound := seat.bound) is not None]
        return sum(opened), len(opened)

    def _open(self, mask: int) -> BoundContext:
        with opening_for(self, extra=False):
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
            crowded = self._is_crowded()
            candidates = (core for core in self._cores if core.idle and core.crowd == crowded)
            core = min(candidates, key=self._free_at(key), default=None)
            if core is not None:
                seat = min(core.idle, key=lambda one: (one.last != key, one.bound is None))
                core.idle.remove(seat)
                self._begin(seat, key)
                return seat
            gate, given = threading.Lock(), list[_Seat]()
            gate.acquire()  # no limit: a lock of this call's own, which is free
            self._waiting.append((gate, given))
        # no limit: whoever is through hands his over, close() lets all go; with run_timeout_ms there is no zero copy
        gate.acquire()
        if not given:
            raise SessionClosed("the session was closed; make a new one")
        given[0].last = key
        return given[0]

    def _is_crowded(self) -> bool:
        """Whether the next run takes a context for a crowd. Needs the lock."""
        if self._crowds and sum(core.busy for core in self._cores) >= self._few:
            self._crowded_at = time.monotonic()
        return self._was_crowded()

    def _was_crowded(self) -> bool:
        """Whether contexts for a crowd were needed a moment ago."""
        return time.monotonic() - self._crowded_at < CROWDED_S

    def _free_at(self, key: int) -> Callable[[_Core], tuple[float, bool, bool]]:
        """Time until a core is free, by the mean of past runs; among idle ones whose context need not be changed."""
        now = time.perf_counter()

        def order(core: _Core) -> tuple[float, bool, bool]:
            free = max(now, core.since + core.busy * self._mean) if core.busy else 0.0
            return free, all(seat.last != key for seat in core.idle), all(seat.bound is None for seat in core.idle)

        return order

    def _begin(self, seat: _Seat, key: int) -> None:
        seat.last = key
        seat.core.busy += 1
        if seat.core.busy == 1:
            seat.core.since = time.perf_counter()

    def _give_back(self, seat: _Seat) -> None:
        core, now = seat.core, time.perf_counter()
        self.last_used = time.monotonic()
        with self._lock:
            took, core.since = now - core.since, now
            self._mean += (took - self._mean) / 8 if self._mean else took
            core.busy -= 1
            if not self._closed:
                stale = self._crowds and core.crowd != (bool(self._waiting) or self._was_crowded())
                if self._waiting and not stale:
                    gate, given = self._waiting.popleft()
                    self._begin(seat, seat.last)
                    given.append(seat)
                    gate.release()
                    return
                core.idle.append(seat)
                if not stale:
                    return
            bound, seat.bound = seat.bound, None  # closed, or of the other kind: never more open than one kind has
        if bound is not None:
            bound.close()


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
    elif value.memory.room < slot.size:
        copied[name] = f"its memory has {value.memory.room} bytes, and the NPU may write {slot.size}"
    else:
        return value.memory
    return bound.room(slot)


def _filled(bound: BoundContext, slot: Slot, value: Any, copied: dict[str, str]) -> NpuMemory:
    """The memory an input is read from, with the value in it."""
    memory = _memory_of(bound, slot, value, copied)
    if slot.spec.name in copied:
        slot.view(memory)[...] = _array(value)
    return memory


def _copy_out(slot: Slot, memory: NpuMemory, target: np.ndarray[Any, Any]) -> None:
    """A result as ONNX has it; integers that the NPU keeps as floats are rounded."""
    given = slot.view(memory)
    rounds = given.dtype.kind == "f" and target.dtype.kind in "iu"
    target[...] = np.rint(given) if rounds else given


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape() if isinstance(value, NpuOrtValue) else value.shape)


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, NpuOrtValue) else value
