"""Types and shapes of every value, by ONNX's own inference, whatever the size of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import ir_gaps
from ort_rknn_converters.graph.onnx_graph import innermost, static_shape

__all__ = ["SEEN", "infer", "skeleton"]

_STANDARD_DOMAINS = frozenset({"", "ai.onnx.ml"})
"""Domains whose ops ONNX's inference knows."""

_BIG = 4096
"""Bytes above which a weight's values cannot matter to shapes (a guess: 512 int64 numbers)."""

_MOST_FOLLOWED = 1 << 20
"""Elements of all lists in a model up to which their values are followed. ONNX's inference makes a dimension of 115
bytes (measured) of every element it does not know, and a Concat of a Concat multiplies them: 450 bytes asked for all
the memory there is. A guess: lists of sizes have four elements, and a second of sound has 16,000."""

SEEN = "ort_rknn.seen"
"""Key in the metadata of values whose shape was seen in a run. It is not written to files."""

_MADE_UP = "unk__"
"""How ONNX's inference begins the names it invents for unknown dimensions."""


def infer(model: ir.Model, *, strict: bool = False) -> None:
    """Set type and shape of the main graph's values as far as inference can know them, in place.

    Shapes that the file declares for intermediate values and outputs are only used where inference has no answer:
    exporters leave stale ones behind, and the inputs' shapes may have been fixed since. Shapes that were seen in a run
    (:func:`ort_rknn_converters.graph.seen_shapes.see_shapes`) are better than both.

    Args:
        model: The model; graph inputs keep their shapes.
        strict: Raise what inference finds contradictory instead of passing over it.

    Raises:
        onnx.shape_inference.InferenceError: Only with ``strict``.
    """
    with skeleton(model) as proto:
        _hide_seen(proto, {value.name for node in model.graph for value in node.outputs if SEEN in value.meta})
        _forget_shapes(proto.graph, {key[:2] for key in model.functions})
        inferred = _inferred(proto, strict)
    if inferred is None:
        return
    known = {info.name: info.type for info in (*inferred.graph.value_info, *inferred.graph.output)}
    for node in model.graph:
        for value in node.outputs:
            found = known.get(value.name or "")
            if found is not None and SEEN not in value.meta and not ir_gaps.is_hidden_map(value.type):
                _merge(value, found)


def _hide_seen(proto: onnx.ModelProto, seen: set[str | None]) -> None:
    """Give nodes whose results were seen a domain that inference does not know: it takes what is declared."""
    if not seen:
        return
    proto.opset_import.add(domain=SEEN, version=1)
    for node in proto.graph.node:
        if seen.intersection(node.output):
            node.domain = SEEN


def _inferred(proto: onnx.ModelProto, strict: bool) -> onnx.ModelProto | None:
    """The model with what inference finds; without following values where that refuses legal arithmetic on integers.

    Following them finds dimensions only, so it is left out where none is missing; ``strict`` may find contradictions.
    """
    plain = _attempt(proto)
    if plain is not None and not strict and _is_complete(plain.graph):
        return plain
    followed = _attempt(proto, strict=strict, follow=True) if _is_followed((plain or proto).graph) else None
    if followed is not None or not strict:
        return followed or plain
    return onnx.shape_inference.infer_shapes(proto, strict_mode=True)


def _attempt(proto: onnx.ModelProto, *, strict: bool = False, follow: bool = False) -> onnx.ModelProto | None:
    """The model with what inference finds, or ``None`` where it finds the model wrong."""
    try:
        return onnx.shape_inference.infer_shapes(proto, strict_mode=strict, data_prop=follow)
    except (onnx.shape_inference.InferenceError, EncodeError, RuntimeError, ValueError):
        return None


def _is_complete(graph: onnx.GraphProto) -> bool:
    """Whether every result in a graph has a type and as many numbers as dimensions."""
    complete = {
        info.name
        for info in (*graph.value_info, *graph.output)
        if info.type.tensor_type.HasField("shape")
        and all(dim.HasField("dim_value") for dim in info.type.tensor_type.shape.dim)
    }
    return all(name in complete for node in graph.node for name in node.output if name)


def _is_followed(graph: onnx.GraphProto) -> bool:
    """Whether the lists of a graph are short enough that inference may follow what stands in them."""
    shapes = [info.type.tensor_type.shape.dim for info in (*graph.input, *graph.value_info, *graph.output)]
    sizes = [shape[0].dim_value for shape in shapes if len(shape) == 1]
    sizes += [tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 1]
    return bool(sum(sizes) <= _MOST_FOLLOWED)


@contextmanager
def skeleton(model: ir.Model) -> Iterator[onnx.ModelProto]:
    """The model as protobuf without the data of its big weights, so that its size does not matter.

    The weights are written as if they lay in another file; inference reads their type and dimensions only.

    Raises:
        ModelError: There is something in the model that protobuf reads and does not write, such as names in no UTF-8.
    """
    kept: list[tuple[ir.Value, ir.TensorProtocol]] = []
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.nbytes <= _BIG:
                continue
            kept.append((value, tensor))
            shape = ir.Shape(tensor.shape.numpy())
            value.const_value = ir.ExternalTensor(
                "absent", 0, 0, tensor.dtype, shape=shape, name=value.name or "", base_dir=""
            )
    try:
        try:
            light = ir.serde.serialize_model(model)
        except ir.serde.SerdeError as error:
            raise ModelError(f"the model is invalid: {innermost(error)}") from error
        yield light
    finally:
        for value, tensor in kept:
            value.const_value = tensor


def _forget_shapes(graph: onnx.GraphProto, functions: set[tuple[str, str]]) -> None:
    """Drop declared shapes that inference can find out itself."""
    inferable = {
        name
        for node in graph.node
        if node.domain in _STANDARD_DOMAINS or (node.domain, node.op_type) in functions
        for name in node.output
    }
    for info in (*graph.value_info, *graph.output):
        kind = info.type.WhichOneof("value")
        if info.name in inferable and kind in ("tensor_type", "sparse_tensor_type"):
            getattr(info.type, kind).ClearField("shape")


def _merge(value: ir.Value, found: onnx.TypeProto) -> None:
    """Put what inference found into ``value``; what it did not find stays as declared."""
    kind = ir.serde.deserialize_type_proto_for_type(found)
    if kind is not None and kind.dtype != ir.DataType.UNDEFINED:
        value.type = kind
    shape = ir.serde.deserialize_type_proto_for_shape(found)
    if shape is None or (value.shape is not None and static_shape(value) == tuple(shape)):
        return
    declared = value.shape if value.shape is not None and len(value.shape) == len(shape) else None
    merged: list[int | ir.SymbolicDim] = []
    for axis, dim in enumerate(shape):
        unknown = not isinstance(dim, int) and (dim.value is None or dim.value.startswith(_MADE_UP))
        if unknown:
            merged.append(declared[axis] if declared is not None else ir.SymbolicDim(None))
        else:
            merged.append(dim)
    value.shape = ir.Shape(merged)
