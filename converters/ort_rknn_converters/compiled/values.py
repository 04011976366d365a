"""The values a compiled model is made of: its steps, and all that travels from the converters to the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, TypeAlias

from ort_rknn_converters.onnx_file.blobs import Blob
from ort_rknn_converters.partition.plan import Plan, Segment
from ort_rknn_converters.tensor_info import TensorInfo
from ort_rknn_converters.util.frozen import frozen

__all__ = ["CompiledParts", "CpuStep", "NpuStep", "Step", "step_row"]


@frozen
class CpuStep:
    """A part of the model that onnxruntime's CPU provider runs.

    Attributes:
        name: ``cpu_0``, ``cpu_1`` ... in execution order.
        model: A standalone ONNX model.
        inputs: Names of the values it reads, in the order of its graph inputs.
        outputs: Names of the values it gives, in the order of its graph outputs.
    """

    name: str
    model: Blob
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def kind(self) -> Literal["cpu"]:
        """Place of the step: ``npu`` or ``cpu``."""
        return "cpu"


@frozen
class NpuStep:
    """A part of the model that was compiled for the NPU.

    Attributes:
        name: The segment's name, ``npu_0``, ``npu_1`` ... in execution order.
        segment: Its entry in the plan.
        inputs: What it reads, as ONNX declares it, in the order of the compiled code's inputs.
        outputs: What it gives, as ONNX declares it, in the order of the compiled code's outputs.
        code: SoC name -> the vendor's compiled code (``.rknn``).
        onnx: The segment as standalone ONNX, for a simulator or the CPU; ``None`` when it was stripped.
        precision: ``fp16``, ``int8`` ...
        toolkit_version: Version of the rknn-toolkit2 that compiled it.
        dynamic: Whether the code holds several sets of input shapes, of which these are one: so only in bare files.
    """

    name: str
    segment: Segment
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    code: Mapping[str, Blob]
    onnx: Blob | None
    precision: str = "fp16"
    toolkit_version: str = ""
    dynamic: bool = False

    @property
    def kind(self) -> Literal["npu"]:
        """Place of the step: ``npu`` or ``cpu``."""
        return "npu"


Step: TypeAlias = "CpuStep | NpuStep"


@frozen
class CompiledParts:
    """The fields of :class:`~ort_rknn_converters.compiled.model.CompiledModel`, without its forms on disk.

    Attributes:
        stub: An ONNX model with the original inputs, outputs and metadata and next to no computation. An
            onnxruntime session of it answers ``get_inputs``, ``get_outputs`` and ``get_modelmeta``; it must not be run.
        steps: In execution order. A step's inputs are graph inputs or outputs of steps before it; each graph output is
            an output of a step, or a graph input passed through.
        plan: Which node runs where, and why.
        targets: SoCs there is code for.
        toolkit_version: Version of rknn-toolkit2; ``""`` when nothing was compiled.
        passes: What preparation changed, one sentence each.
        provisional: Why the next conversion may bring more onto the NPU: what failed for reasons of the moment. Empty
            where all that is on the CPU is there for good. Not kept in a file.
    """

    stub: Blob
    steps: tuple[Step, ...]
    plan: Plan
    targets: tuple[str, ...]
    toolkit_version: str = ""
    passes: tuple[str, ...] = ()
    provisional: str = ""

    def __repr__(self) -> str:
        code = sum(blob.size for step in self.npu_steps for blob in step.code.values())
        targets = ", ".join(self.targets) or "no SoC"
        return f"<{type(self).__name__} for {targets}, {code} bytes of NPU code; .plan has more>"

    @property
    def npu_steps(self) -> tuple[NpuStep, ...]:
        """The compiled segments, in execution order."""
        return tuple(step for step in self.steps if isinstance(step, NpuStep))

    @property
    def cpu_steps(self) -> tuple[CpuStep, ...]:
        """The parts left to onnxruntime, in execution order."""
        return tuple(step for step in self.steps if isinstance(step, CpuStep))


def step_row(step: Step) -> dict[str, Any]:
    """Describes a step as both forms on disk do; each form adds where the step's models and code are."""
    sides: dict[str, list[Any]] = {"inputs": list(step.inputs), "outputs": list(step.outputs)}
    if step.kind == "npu":
        sides = {side: [asdict(value) for value in values] for side, values in sides.items()}
    return {"kind": step.kind, "name": step.name, **sides}
