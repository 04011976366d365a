"""Put the parts of a converted model together: the shell, the CPU steps cut out of the graph, the compiled segments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

import onnx
import onnx_ir as ir

from ort_rknn_converters import ort
from ort_rknn_converters.attempt import Attempt
from ort_rknn_converters.blobs import BytesBlob
from ort_rknn_converters.compiled import CompiledModel, CpuStep, Step
from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.extract import extract
from ort_rknn_converters.graph import constant, said_name
from ort_rknn_converters.graph_types import show_maps
from ort_rknn_converters.partition import Part, parts
from ort_rknn_converters.plan import NPU, Plan
from ort_rknn_converters.prepare import Prepared
from ort_rknn_converters.shell import make_shell, note_pinned
from ort_rknn_converters.steps import cpu_step, npu_step

__all__ = ["assemble", "outside"]

_KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})
"""Operators that onnxruntime itself has; others need a library that only the session's options name."""


def outside(source: ir.Model, original: str | bytes, dims: Mapping[str, int]) -> onnx.ModelProto:
    """The shell of a model.

    Args:
        source: The model as read.
        original: The same for onnxruntime: path or bytes.
        dims: Sizes of the dimensions that are pinned by name.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """
    proto = onnx.ModelProto(ir_version=source.ir_version)
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        value = getattr(source, field)
        if value:
            setattr(proto, field, value)
    for key, text in source.metadata_props.items():
        proto.metadata_props.add(key=key, value=text)
    graph = source.graph
    proto.graph.name, proto.graph.doc_string = graph.name or "", graph.doc_string or ""
    for key, text in graph.metadata_props.items():
        proto.graph.metadata_props.add(key=key, value=text)
    proto.graph.input.extend(ir.serde.serialize_value(value) for value in graph.inputs)
    proto.graph.output.extend(ir.serde.serialize_value(value) for value in graph.outputs)
    for value in graph.inputs:
        if value.const_value is not None and value.is_initializer():
            tensor = ir.Tensor(value.const_value.numpy(), dtype=value.const_value.dtype, name=value.name)
            proto.graph.initializer.append(ir.serde.serialize_tensor(tensor))
    show_maps(proto)
    nodes = chain(graph.all_nodes(), *(function.all_nodes() for function in source.functions.values()))
    known = {(domain, name) for domain, name, _ in source.functions}
    foreign = any(node.domain not in _KNOWN_DOMAINS and (node.domain, node.op_type) not in known for node in nodes)
    shell = make_shell(proto, source=None if foreign else original)
    if dims and not foreign:
        note_pinned(shell, original, dims)
    return shell


def assemble(shell: onnx.ModelProto, prepared: Prepared, plan: Plan, attempts: Mapping[str, Attempt]) -> CompiledModel:
    """Build the compiled model.

    Args:
        shell: From :func:`outside`.
        prepared: The model that was cut.
        plan: How it was cut.
        attempts: Segment name -> the compiled segment.

    Raises:
        ModelError: onnxruntime cannot load a part that is left to it.
    """
    unsaid = {node.name for node in prepared.model.graph if not said_name(node)}
    steps: list[Step] = []
    for part in _with_constants(prepared.model, parts(prepared.model, plan)):
        if part.place == NPU:
            segment = next(one for one in plan.segments if one.name == part.name)
            attempt = attempts[part.name]
            assert attempt.result is not None
            steps.append(
                npu_step(
                    segment,
                    code={plan.target: BytesBlob(attempt.result.rknn)},
                    model=attempt.model,
                    inputs=attempt.inputs,
                    outputs=attempt.outputs,
                    precision=plan.precision,
                    toolkit_version=attempt.result.toolkit_version,
                )
            )
        else:
            steps.append(_on_cpu(part, prepared.model, shell, unsaid))
    versions = [attempt.result.toolkit_version for attempt in attempts.values() if attempt.result is not None]
    return CompiledModel(
        shell=BytesBlob(shell.SerializeToString(deterministic=True)),
        steps=tuple(steps),
        plan=plan,
        targets=(plan.target,),
        toolkit_version=versions[0] if versions else "",
        passes=prepared.changes,
    )


def _with_constants(model: ir.Model, found: tuple[Part, ...]) -> Iterator[Part]:
    """The parts; graph outputs that are constants are given by the first CPU part, or by one of their own."""
    fixed = tuple(value.name or "" for value in model.graph.outputs if constant(value) is not None)
    if fixed and not any(part.place != NPU for part in found):
        yield Part("cpu_0", "CPU", (), (), fixed)
        fixed = ()
    for part in found:
        if fixed and part.place != NPU:
            part = Part(part.name, part.place, part.nodes, part.inputs, (*part.outputs, *fixed))
            fixed = ()
        yield part


def _on_cpu(part: Part, model: ir.Model, shell: onnx.ModelProto, unsaid: set[str | None]) -> CpuStep:
    proto = extract(model, part.nodes, part.inputs, part.outputs)
    for node in proto.graph.node:
        if node.name in unsaid:
            node.name = ""  # onnxruntime says of a node that fails what it says of the original's
    step = cpu_step(part.name, proto, shell)
    if all(entry.domain in _KNOWN_DOMAINS for entry in proto.opset_import):
        try:
            ort.on_cpu(step.model.read(), ort.quiet_options("ORT_DISABLE_ALL"))
        except Exception as error:  # onnxruntime raises a class of its own per kind of fault
            raise ModelError(f"ONNX Runtime cannot run a part that is left to it: {error}") from error
    return step
