"""Put the parts of a converted model together: the stub, the CPU steps cut out of the graph, the compiled segments."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain

import onnx
import onnx_ir as ir

from ort_rknn_converters.compile.attempt import Attempt
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.compiled.steps import cpu_step, npu_step
from ort_rknn_converters.compiled.stub_model import ABOUT, make_stub, note_pinned
from ort_rknn_converters.compiled.values import CpuStep, NpuStep
from ort_rknn_converters.graph.extract import extract
from ort_rknn_converters.graph.ir_gaps import show_maps
from ort_rknn_converters.graph.onnx_graph import constant, original_name
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.blobs import BytesBlob
from ort_rknn_converters.partition.partition import PlannedStep, planned_steps
from ort_rknn_converters.partition.plan import NPU, Plan, Segment
from ort_rknn_converters.pipeline.prepare import Prepared

__all__ = ["Assembly"]

_KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})
"""Operators that onnxruntime itself has; others need a library that only the session's options name."""


class Assembly:
    """Puts a converted model together; what needs no compiled code may be made before there is any.

    Args:
        source: The model as read.
        original: The same for onnxruntime: path or bytes.
        dims: Sizes of the dimensions that are pinned by name.
        prepared: The model that is cut.
    """

    def __init__(self, source: ir.Model, original: str | bytes, dims: Mapping[str, int], prepared: Prepared) -> None:
        self._prepared = prepared
        self._unsaid = {node.name for node in prepared.model.graph if not original_name(node)}
        self._outside = partial(_stub_of, source, original, dims)
        self._stub: onnx.ModelProto | None = None
        self._left: dict[PlannedStep, CpuStep] = {}
        self._lock = threading.Lock()

    def begin(self, plan: Plan) -> onnx.ModelProto:
        """Make the stub, and all steps of a plan that are left to the CPU; returns the stub. Thread-safe.

        Raises:
            ModelError: onnxruntime cannot load the model, or a part that is left to it.
        """
        with self._lock:
            self._stub = self._stub or self._outside()
            for part in self._parts(plan):
                if part.place != NPU and part not in self._left:
                    self._left[part] = _on_cpu(part, self._prepared.model, self._stub, self._unsaid)
            return self._stub

    def finish(self, plan: Plan, attempts: Mapping[str, Attempt]) -> CompiledModel:
        """Build the compiled model.

        Args:
            plan: How the model was cut.
            attempts: Segment name -> the compiled segment.

        Raises:
            ModelError: As :meth:`begin`.
        """
        stub = self.begin(plan)
        named = {segment.name: segment for segment in plan.segments}
        versions = [attempt.result.toolkit_version for attempt in attempts.values() if attempt.result is not None]
        return CompiledModel(
            stub=BytesBlob(stub.SerializeToString(deterministic=True)),
            steps=tuple(
                _on_npu(named[part.name], plan, attempts[part.name]) if part.place == NPU else self._left[part]
                for part in self._parts(plan)
            ),
            plan=plan,
            targets=(plan.target,),
            toolkit_version=versions[0] if versions else "",
            passes=self._prepared.changes,
        )

    def _parts(self, plan: Plan) -> Iterator[PlannedStep]:
        return _with_constants(self._prepared.model, planned_steps(self._prepared.model, plan))


def _stub_of(source: ir.Model, original: str | bytes, dims: Mapping[str, int]) -> onnx.ModelProto:
    """The stub of a model.

    Args:
        source: The model as read.
        original: The same for onnxruntime: path or bytes.
        dims: Sizes of the dimensions that are pinned by name.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """
    proto = onnx.ModelProto(ir_version=source.ir_version)
    for field in ABOUT:
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
    stub = make_stub(proto, source=None if foreign else original)
    if dims and not foreign:
        note_pinned(stub, original, dims)
    return stub


def _with_constants(model: ir.Model, found: tuple[PlannedStep, ...]) -> Iterator[PlannedStep]:
    """The parts; graph outputs that are constants are given by the first CPU part, or by one of their own."""
    fixed = tuple(value.name or "" for value in model.graph.outputs if constant(value) is not None)
    if fixed and not any(part.place != NPU for part in found):
        yield PlannedStep("cpu_0", "CPU", (), (), fixed)
        fixed = ()
    for part in found:
        if fixed and part.place != NPU:
            part = PlannedStep(part.name, part.place, part.nodes, part.inputs, (*part.outputs, *fixed))
            fixed = ()
        yield part


def _on_npu(segment: Segment, plan: Plan, attempt: Attempt) -> NpuStep:
    assert attempt.result is not None
    return npu_step(
        segment,
        code={plan.target: BytesBlob(attempt.result.rknn)},
        model=attempt.model,
        inputs=attempt.inputs,
        outputs=attempt.outputs,
        precision=plan.precision,
        toolkit_version=attempt.result.toolkit_version,
    )


def _on_cpu(part: PlannedStep, model: ir.Model, stub: onnx.ModelProto, unsaid: set[str | None]) -> CpuStep:
    proto = extract(model, part.nodes, part.inputs, part.outputs)
    for node in proto.graph.node:
        if node.name in unsaid:
            node.name = ""  # onnxruntime says of a node that fails what it says of the original's
    step = cpu_step(part.name, proto, stub)
    if all(entry.domain in _KNOWN_DOMAINS for entry in proto.opset_import):
        with ort.onnxruntime_errors("ONNX Runtime cannot run a part that is left to it"):
            source, folder = step.model.source()
            ort.on_cpu(source, ort.quiet_options("ORT_DISABLE_ALL"), folder)
    return step
