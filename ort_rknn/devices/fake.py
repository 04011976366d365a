"""A device for tests, ours and users': every inference waits at a gate, so the test decides who finishes when and how.

Example:
    >>> device = FakeDevice(cores=3, key=lambda inputs: int(inputs[0].flat[0]))
    >>> # ... submit three jobs whose first input element is 0, 1, 2 ...
    >>> device.gate(2).open()                      # job 2 finishes first
    >>> device.gate(0).fail(-2)                    # job 0 fails with RKNN_ERR_TIMEOUT
    >>> device.gate(1).wait_started(5).core        # core that job 1 runs on
    1

Nothing sleeps: gates are events. A gate that is never opened is an inference that hangs.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn.devices.base import AUTO, Context, SegmentCode
from ort_rknn.devices.vendor_errors import ERRORS
from ort_rknn.errors import DeviceError
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array

__all__ = ["FakeCall", "FakeContext", "FakeDevice", "Gate", "echo"]

Compute = Callable[[SegmentCode, Sequence["Array"]], Sequence["Array"]]


@frozen
class FakeCall:
    """One inference the device was asked for.

    Attributes:
        number: How many were begun before it.
        key: What the device's ``key`` function made of its inputs.
        core: Lowest core of its context's mask; -1 for auto.
        context: Number of its context, in the order of opening.
        thread: Name of the thread that called.
        thread_id: Identity of that thread.
        segment: Name of the segment.
    """

    number: int
    key: Hashable
    core: int
    context: int
    thread: str
    thread_id: int
    segment: str


class Gate:
    """Gate at which one inference waits. It may be opened before the inference arrives."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._started = threading.Event()
        self._call: FakeCall | None = None
        self._error: BaseException | None = None

    @property
    def started(self) -> bool:
        """Whether the inference has arrived."""
        return self._started.is_set()

    def open(self) -> None:
        """Let the inference end with its result."""
        self._opened.set()

    def fail(self, code: int | BaseException = -1) -> None:
        """Let the inference end with an error: one of the vendor's codes, or any exception."""
        if isinstance(code, BaseException):
            self._error = code
        else:
            name, sentence = ERRORS.get(code, (str(code), "unknown"))
            text = f"rknn_run failed with {name} ({code}): {sentence}"
            self._error = DeviceError(text, call="rknn_run", code=code, code_name=name)
        self._opened.set()

    def wait_started(self, timeout: float = 10.0) -> FakeCall:
        """Wait until the inference has arrived.

        Raises:
            TimeoutError: It did not arrive within ``timeout`` seconds.
        """
        if not self._started.wait(timeout) or self._call is None:
            raise TimeoutError(f"no inference arrived at this gate within {timeout} s")
        return self._call

    def _pass(self, call: FakeCall) -> None:
        self._call = call
        self._started.set()
        self._opened.wait()  # no limit: a gate that the test opens is what this device is for
        if self._error is not None:
            raise copy(self._error)  # what was raised knows its callers, and this gate stays


class FakeDevice:
    """A device whose inferences end when the test says so.

    Args:
        cores: Number of cores.
        gated: Whether inferences wait at their gates; if not, every gate is open.
        key: Names an inference by its inputs, for :meth:`gate`; default: the order in which they begin, 0, 1, 2 ...
        compute: ``(code, inputs) -> outputs``; default: :func:`echo`.
        name: What the device calls itself.
    """

    def __init__(
        self,
        cores: int = 3,
        *,
        gated: bool = True,
        key: Callable[[Sequence[Array]], Hashable] | None = None,
        compute: Compute | None = None,
        name: str = "fake",
    ) -> None:
        self.name = name
        self.cores = cores
        self._gated = gated
        self._key = key
        self._compute = compute or echo
        self._lock = threading.Lock()
        self._closings = threading.Condition()
        self._numbers = itertools.count()
        self._gates: dict[Hashable, Gate] = {}
        self._refused: dict[int, BaseException] = {}
        self.calls: list[FakeCall] = []
        self.opened: list[FakeContext] = []
        self.misuse: list[str] = []
        self.closed = False

    def gate(self, key: Hashable) -> Gate:
        """The gate of the inference with this key, made if need be."""
        with self._lock:
            gate = self._gates.get(key)
            if gate is None:
                gate = self._gates[key] = Gate()
                if not self._gated:
                    gate.open()
            return gate

    def open_all(self) -> None:
        """Open every gate, those to come included."""
        with self._lock:
            self._gated = False
            gates = list(self._gates.values())
        for gate in gates:
            gate.open()

    def refuse(self, mask: int, error: BaseException | None = None) -> None:
        """Let contexts on this core mask fail to open from now on; ``None`` takes it back to an ordinary failure."""
        text = f"rknn_init failed with RKNN_ERR_FAIL (-1) on core mask {mask:#x}"
        self._refused[mask] = error or DeviceError(text, call="rknn_init", code=-1, code_name="RKNN_ERR_FAIL")

    def open(self, code: SegmentCode, mask: int = AUTO, share: Context | None = None) -> FakeContext:
        """Open a segment; see :meth:`ort_rknn.devices.base.Device.open`."""
        if mask in self._refused:
            raise self._refused[mask]
        with self._lock:
            context = FakeContext(self, code, mask, share, len(self.opened))
            self.opened.append(context)
        return context

    @property
    def alive(self) -> list[FakeContext]:
        """The contexts that are open."""
        return [context for context in self.opened if not context.closed]

    def wait_closed(self, timeout: float = 10.0) -> bool:
        """Wait until no context is open; ``False`` when one still is after ``timeout`` seconds."""
        with self._closings:
            return self._closings.wait_for(lambda: not self.alive, timeout)

    def describe(self) -> Mapping[str, Any]:
        """Facts about the device."""
        return {"device": self.name, "cores": self.cores, "calls": len(self.calls), "contexts": len(self.alive)}

    def close(self) -> None:
        """Give everything back."""
        if self.alive:
            self.misuse.append(f"device closed with {len(self.alive)} context(s) open")
        self.closed = True

    def _run(self, context: FakeContext, inputs: Sequence[Array]) -> Sequence[Array]:
        thread = threading.current_thread()
        with self._lock:
            number = next(self._numbers)
            key = number if self._key is None else self._key(inputs)
            core = (context.mask & -context.mask).bit_length() - 1
            call = FakeCall(number, key, core, context.number, thread.name, thread.ident or 0, context.code.name)
            self.calls.append(call)
        self.gate(key)._pass(call)
        return self._compute(context.code, inputs)


class FakeContext:
    """An open segment of a :class:`FakeDevice`.

    Attributes:
        code: The segment.
        mask: Its core mask.
        share: The context whose weights it shares.
        number: Order of opening.
        closed: Whether it was closed.
    """

    def __init__(self, device: FakeDevice, code: SegmentCode, mask: int, share: Context | None, number: int) -> None:
        self.code = code
        self.mask = mask
        self.share = share
        self.number = number
        self.closed = False
        self._device = device
        self._busy = threading.Lock()

    def run(self, inputs: Sequence[Array], wanted: Sequence[bool] | None = None) -> list[Array | None]:
        """Wait at the gate, then compute; see :meth:`ort_rknn.devices.base.Context.run`."""
        self._check(inputs)
        if not self._busy.acquire(blocking=False):
            self._device.misuse.append(f"context {self.number} used by two threads at once")
            raise DeviceError(self._device.misuse[-1])
        try:
            outputs = self._device._run(self, inputs)
        finally:
            self._busy.release()
        return [array if wanted is None or wanted[place] else None for place, array in enumerate(outputs)]

    def close(self) -> None:
        """Give everything back. May be called twice."""
        if self._busy.locked():
            self._device.misuse.append(f"context {self.number} closed while it runs")
        with self._device._closings:
            self.closed = True
            self._device._closings.notify_all()

    def describe(self) -> Mapping[str, Any]:
        """Facts about this context."""
        return {"mask": self.mask, "context": self.number, "shared": self.share is not None}

    def _check(self, inputs: Sequence[Array]) -> None:
        wrong = ""
        if self.closed:
            wrong = "used after it was closed"
        elif len(inputs) != len(self.code.inputs):
            wrong = f"got {len(inputs)} inputs for {len(self.code.inputs)}"
        for array, spec in zip(inputs, self.code.inputs, strict=False):
            if array.dtype != spec.dtype or array.shape != spec.shape or not array.flags.c_contiguous:
                wrong = f"input {spec.name}: got {array.dtype}{array.shape}, wants {spec.dtype}{spec.shape}"
        if wrong:
            self._device.misuse.append(f"context {self.number}: {wrong}")
            raise DeviceError(self._device.misuse[-1])


def echo(code: SegmentCode, inputs: Sequence[Array]) -> list[Array]:
    """Each output is the input in the same place (the first for want of one), in the output's own dtype and shape."""
    outputs = []
    for place, spec in enumerate(code.outputs):
        source = inputs[place] if place < len(inputs) else inputs[0]
        outputs.append(np.array(np.resize(source, spec.shape), dtype=spec.dtype))
    return outputs
