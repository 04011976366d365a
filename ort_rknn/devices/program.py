"""A compiled model bound to a device: one job's way through its CPU and NPU steps.

A :class:`Program` knows nothing of threads. It opens CPU sessions once, opens NPU contexts for whoever asks
(:meth:`Program.open_lane`), and says for a set of wanted outputs which steps must run and which values may be
forgotten after each (:meth:`Program.route`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from ort_rknn.accounting.ledger import LEDGER
from ort_rknn.devices.base import Context, Device, SegmentCode, TensorSpec
from ort_rknn.ort_conventions import DTYPES, ort_error
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array
    from ort_rknn_converters.onnx_file.blobs import Blob

__all__ = [
    "BoundCpuStep",
    "BoundNpuStep",
    "CpuSession",
    "LaneContexts",
    "Program",
    "Route",
    "RoutedStep",
    "check_terminated",
    "open_cpu_session",
]


class CpuSession(Protocol):
    """Part of ``onnxruntime.InferenceSession`` that a program needs."""

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None) -> Any:
        """Mirrors onnxruntime's method."""


@frozen
class BoundCpuStep:
    """A step that onnxruntime executes on the CPU."""

    kind: ClassVar[Literal["cpu"]] = "cpu"
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    session: CpuSession


@frozen
class BoundNpuStep:
    """A step that a device executes.

    Attributes:
        name: The segment's name.
        inputs: Names of the values it reads, in the order of the code's inputs.
        outputs: Names of the values it gives, in the order of the code's outputs.
        code: What the device opens.
    """

    kind: ClassVar[Literal["npu"]] = "npu"
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    code: SegmentCode


@frozen
class RoutedStep:
    """One step on a route.

    Attributes:
        step: The step.
        npu: Its number among the program's NPU steps; -1 on the CPU.
        wanted: Which outputs are needed; ``None`` when all are.
        names: The names of those.
        given: The names of what it gives: on the CPU those, on the NPU all outputs, ``None`` for what nobody needs.
        forget: Values that nobody needs afterwards.
        last: Whether no NPU step comes after it.
    """

    step: BoundCpuStep | BoundNpuStep
    npu: int
    wanted: tuple[bool, ...] | None
    names: tuple[str, ...]
    given: tuple[str, ...]
    forget: tuple[str, ...]
    last: bool


@frozen
class Route:
    """The steps that must run for a set of outputs.

    Attributes:
        outputs: The outputs, in the caller's order.
        steps: The steps, in execution order.
        lent: Outputs that are the caller's own inputs: they must be copied, results belong to the caller.
        whole: The only step, where all of its outputs are asked for in their order.
    """

    outputs: tuple[str, ...]
    steps: tuple[RoutedStep, ...]
    lent: frozenset[str]
    whole: RoutedStep | None = None

    def collect(self, values: Mapping[str, Any]) -> list[Any]:
        """The results of a job that went all the way."""
        if self.lent:
            return [np.array(values[name]) if name in self.lent else values[name] for name in self.outputs]
        return [values[name] for name in self.outputs]


class LaneContexts:
    """One device context for each NPU step of a program, all on the same core mask. One thread at a time."""

    def __init__(self, contexts: Sequence[Context]) -> None:
        self.contexts = tuple(contexts)

    def run(self, step: int, inputs: Sequence[Array], wanted: Sequence[bool] | None = None) -> list[Array | None]:
        """Run NPU step number ``step``; see :meth:`ort_rknn.devices.base.Context.run`."""
        return self.contexts[step].run(inputs, wanted)

    def phases(self, step: int) -> tuple[float, float, float] | None:
        """Seconds the last run of a step took to set inputs, to infer and to fetch outputs, if its device says so."""
        return getattr(self.contexts[step], "phases", None)

    @property
    def size(self) -> int:
        """Bytes of NPU memory they take."""
        return sum(getattr(context, "size", 0) for context in self.contexts)

    def describe(self) -> list[Mapping[str, Any]]:
        """Facts about each context."""
        return [context.describe() for context in self.contexts]

    def close(self) -> None:
        """Give everything back. May be called twice."""
        for context in reversed(self.contexts):
            context.close()


class Program:
    """Steps in execution order, bound to a device.

    Args:
        compiled: A compiled model (:class:`ort_rknn_converters.compiled.model.CompiledModel`).
        device: What executes the NPU steps; ``None`` when there are none.
        make_cpu_session: Opens the ONNX model of a CPU step; the session's options come in here.
        outputs: Names and order of the model's outputs: what ``output_names=None`` means.
        target: SoC whose code is opened; default: the compiled model's first.

    Attributes:
        steps: The steps, in execution order; each has ``kind``, ``name``, ``inputs`` and ``outputs``.
        device: The device.
        outputs: The model's outputs.
        plan: The compiled model's plan, or ``None``.
    """

    def __init__(
        self,
        compiled: Any,
        device: Device | None,
        make_cpu_session: Callable[[Blob], CpuSession] | None = None,
        *,
        outputs: Sequence[str] = (),
        target: str | None = None,
    ) -> None:
        make = make_cpu_session or open_cpu_session
        soc = target or (compiled.targets[0] if compiled.targets else "")
        steps = [
            _npu_step(step, soc)
            if step.kind == "npu"
            else BoundCpuStep(step.name, step.inputs, step.outputs, make(step.model))
            for step in compiled.steps
        ]
        self._bind(steps, device, outputs, compiled.plan)

    @classmethod
    def from_steps(
        cls,
        steps: Sequence[BoundCpuStep | BoundNpuStep],
        device: Device | None,
        *,
        outputs: Sequence[str],
        plan: Any = None,
    ) -> Program:
        """A program made by hand, or from a bare segment."""
        program = cls.__new__(cls)
        program._bind(steps, device, outputs, plan)
        return program

    def _bind(
        self, steps: Sequence[BoundCpuStep | BoundNpuStep], device: Device | None, outputs: Sequence[str], plan: Any
    ) -> None:
        self.steps = tuple(steps)
        self.device = device
        self.outputs = tuple(outputs)
        self.plan = plan
        self._npu_steps = [step for step in self.steps if isinstance(step, BoundNpuStep)]
        self._routes: dict[tuple[str, ...], Route] = {}
        if self._npu_steps and device is None:
            raise ValueError("a program with NPU steps needs a device")

    @property
    def has_npu(self) -> bool:
        """Whether any step needs the device."""
        return bool(self._npu_steps)

    def open_lane(self, mask: int, share: LaneContexts | None = None) -> LaneContexts:
        """Open one context for each NPU step.

        Args:
            mask: Core mask, 0 lets the driver choose.
            share: Contexts of the same program whose weights may be shared. They may be running meanwhile in another
                thread; they stay open until these are closed.

        Raises:
            DeviceUnavailable: The device cannot open anything.
            NpuMemoryFull: There is no NPU memory for it, though what is idle was closed.
            DeviceError: A segment cannot be opened.
        """
        assert self.device is not None
        bytes_to_open = getattr(self.device, "bytes_to_open", None)
        if bytes_to_open is None:  # a device that takes no memory of the NPU
            return self._open_lane(mask, share)
        lent = share.contexts if share else [None] * len(self._npu_steps)

        def size(again: bool) -> int:
            """For all at once: two programs that each have half of what they need would wait for each other."""
            return sum(bytes_to_open(step.code, one, again) for step, one in zip(self._npu_steps, lent, strict=True))

        return LEDGER.opened(size, "a core's contexts", lambda _: self._open_lane(mask, share))

    def _open_lane(self, mask: int, share: LaneContexts | None) -> LaneContexts:
        assert self.device is not None
        opened: list[Context] = []
        try:
            for number, step in enumerate(self._npu_steps):
                opened.append(self.device.open(step.code, mask, share.contexts[number] if share else None))
        except BaseException:
            LaneContexts(opened).close()
            raise
        return LaneContexts(opened)

    def run_cpu(self, routed: RoutedStep, values: Mapping[str, Any], run_options: Any = None) -> Sequence[Any]:
        """Run a CPU step; gives the values of :attr:`RoutedStep.given`."""
        step: Any = routed.step
        results: Sequence[Any] = step.session.run(
            routed.names, {name: values[name] for name in step.inputs}, run_options
        )
        return results

    def route(self, output_names: Sequence[str] | None = None) -> Route:
        """The way to these outputs (all of the model's when ``None`` or empty); steps they do not need are left out."""
        wanted = tuple(output_names or self.outputs)
        route = self._routes.get(wanted)
        if route is None:
            route = self._routes[wanted] = self._find_route(wanted)
        return route

    def _find_route(self, outputs: tuple[str, ...]) -> Route:
        needed = set(outputs)
        used_later = set(outputs)
        steps: list[RoutedStep] = []
        npu = len(self._npu_steps)
        last = True
        for step in reversed(self.steps):
            npu -= isinstance(step, BoundNpuStep)
            wanted = tuple(name in needed for name in step.outputs)
            if not any(wanted):
                continue
            names = tuple(name for name in step.outputs if name in needed)
            forget = tuple(name for name in dict.fromkeys(step.inputs) if name not in used_later)
            used_later.update(step.inputs)
            needed.difference_update(step.outputs)
            needed.update(step.inputs)
            number = npu if isinstance(step, BoundNpuStep) else -1
            unneeded = tuple(name for name, want in zip(step.outputs, wanted, strict=True) if not want)
            given = names if number < 0 else step.outputs
            forget += unneeded if number >= 0 else ()
            steps.append(RoutedStep(step, number, None if all(wanted) else wanted, names, given, forget, last))
            last = last and number < 0
        made = {name for routed in steps for name in routed.names}
        lent = frozenset(outputs) - made
        alone = len(steps) == 1 and steps[0].npu >= 0 and not lent and steps[0].given == outputs
        return Route(outputs, tuple(reversed(steps)), lent, steps[0] if alone else None)


def _npu_step(step: Any, soc: str) -> BoundNpuStep:
    code = SegmentCode(
        name=step.name,
        inputs=_specs(step.inputs),
        outputs=_specs(step.outputs),
        target=soc,
        precision=step.precision,
        rknn=step.code.get(soc),
        onnx=step.onnx,
        dynamic=step.dynamic,
    )
    inputs, outputs = (tuple(spec.name for spec in specs) for specs in (code.inputs, code.outputs))
    return BoundNpuStep(step.name, inputs, outputs, code)


def _specs(infos: Iterable[Any]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(info.name, np.dtype(DTYPES[info.dtype]), tuple(info.shape)) for info in infos)


def open_cpu_session(model: Blob) -> CpuSession:
    """Open a CPU step with onnxruntime's defaults."""
    import onnxruntime

    from ort_rknn_converters.onnx_file.blobs import WEIGHTS_FOLDER

    source, folder = model.source()
    options = onnxruntime.SessionOptions()
    if folder:
        options.add_session_config_entry(WEIGHTS_FOLDER, folder)
    session: CpuSession = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session


def check_terminated(run_options: Any) -> None:
    """Raise what onnxruntime raises when ``run_options.terminate`` is set."""
    if run_options is not None and getattr(run_options, "terminate", False):
        raise ort_error("Fail", "Exiting due to terminate flag being set to true.")
