"""Make the steps of a compiled model from standalone ONNX models, in a canonical form.

Canonical, so that a compiled model saved as EPContext ONNX and loaded again is the same value byte for byte: whatever
the file does not keep (names of the parts' graphs, order of declarations) is fixed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ort_rknn_converters.compiled.values import CpuStep, NpuStep
from ort_rknn_converters.onnx_file.blobs import Blob
from ort_rknn_converters.onnx_file.schema import ValueInfoProto, ir, onnx
from ort_rknn_converters.onnx_file.split_model import SplitModel
from ort_rknn_converters.onnx_file.tensor_types import bodies, raw_constant, value_info
from ort_rknn_converters.onnx_file.weights import LargeWeights, is_large
from ort_rknn_converters.partition.plan import Segment
from ort_rknn_converters.tensor_info import TensorInfo

__all__ = ["IR_VERSION", "canonical", "cpu_step", "made_values", "npu_step", "used_values"]

IR_VERSION = 10
"""The least IR version of what we write: model-local functions with value_info need it, onnxruntime 1.20 reads it."""

_NO_OPSET = 21  # of a part that computes nothing and says nothing


def cpu_step(name: str, model: onnx.ModelProto | SplitModel, stub: onnx.ModelProto) -> CpuStep:
    """A CPU step; values that are inputs or outputs of the whole model are declared as there."""
    declared = {value.name: value for value in (*stub.graph.output, *stub.graph.input)}
    part = canonical(model, name, declared)
    return CpuStep(
        name=name,
        model=part,
        inputs=tuple(value.name for value in part.skeleton.graph.input),
        outputs=tuple(value.name for value in part.skeleton.graph.output),
    )


def npu_step(
    segment: Segment,
    *,
    code: Mapping[str, Blob],
    model: onnx.ModelProto | SplitModel | None,
    inputs: Sequence[TensorInfo] | None = None,
    outputs: Sequence[TensorInfo] | None = None,
    precision: str,
    toolkit_version: str,
) -> NpuStep:
    """An NPU step.

    Args:
        segment: Its entry in the plan.
        code: SoC name -> compiled code.
        model: The segment's standalone ONNX, or ``None``.
        inputs: In the order of the compiled code; the segment's when ``None``.
        outputs: The same for outputs.
        precision: ``fp16`` ...
        toolkit_version: Of the rknn-toolkit2 that compiled it.
    """
    inputs = tuple(segment.inputs if inputs is None else inputs)
    outputs = tuple(segment.outputs if outputs is None else outputs)
    part = None
    if model is not None:
        declared = {tensor.name: value_info(tensor) for tensor in (*inputs, *outputs)}
        part = canonical(model, segment.name, declared, [tensor.name for tensor in inputs])
    return NpuStep(segment.name, segment, inputs, outputs, dict(code), part, precision, toolkit_version)


def canonical(
    model: onnx.ModelProto | SplitModel,
    name: str,
    declared: Mapping[str, ValueInfoProto],
    inputs: Sequence[str] | None = None,
) -> SplitModel:
    """Fixes everything arbitrary in a model and takes its large weights apart; the computation stays.

    Args:
        model: A standalone model without functions of its own; it shares its large weights with the result.
        name: Name of the new graph.
        declared: Declarations that replace the model's own.
        inputs: Order of the inputs; the model's own when ``None``.
    """
    large: dict[str, ir.TensorProtocol] = {}
    if isinstance(model, SplitModel):
        large.update(model.weights.tensors)
        model = model.skeleton
    graph = model.graph
    part = onnx.ModelProto(ir_version=max(IR_VERSION, model.ir_version), producer_name="ort_rknn")
    domains = {_domain(entry.domain): entry.version for entry in model.opset_import}
    for domain in sorted(_domains(graph.node) & set(domains) | {""}):
        part.opset_import.add(domain=domain, version=domains.get(domain, _NO_OPSET))
    part.graph.name = name
    part.graph.node.extend(graph.node)
    for tensor in sorted(graph.initializer, key=lambda tensor: tensor.name):
        if is_large(tensor):
            large[tensor.name] = ir.serde.deserialize_tensor(tensor)
        else:
            part.graph.initializer.append(raw_constant(tensor))
    own = {value.name: value for value in (*graph.input, *graph.output)}
    order = [value.name for value in graph.input] if inputs is None else inputs
    part.graph.input.extend(_plain(declared.get(value, own[value])) for value in order)
    part.graph.output.extend(_plain(declared.get(value.name, value)) for value in graph.output)
    inside = made_values(graph.node) - {value.name for value in graph.output}
    known = {value.name: value for value in graph.value_info}
    part.graph.value_info.extend(_plain(known[value]) for value in sorted(known) if value in inside)
    return SplitModel(part, LargeWeights(tuple(sorted(large.items()))))


def made_values(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Names of the values that nodes give."""
    return {value for node in nodes for value in node.output if value}


def used_values(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Names that nodes read, and the bodies inside them."""
    used: set[str] = set()
    for node in nodes:
        used.update(node.input)
        for graph in bodies(node):
            used |= used_values(graph.node)
            used.update(value.name for value in graph.output)
    return used


def _domains(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """Operator domains that nodes use, and the bodies inside them."""
    return {_domain(node.domain) for node in nodes} | {
        domain for node in nodes for graph in bodies(node) for domain in _domains(graph.node)
    }


def _domain(domain: str) -> str:
    """The standard's own domain has two names."""
    return "" if domain == "ai.onnx" else domain


def _plain(value: ValueInfoProto) -> ValueInfoProto:
    """Name and type only: the documentation stays with the whole model."""
    return ValueInfoProto(name=value.name, type=value.type)
