"""Element types of a segment as the toolkit wants them: floats are float32, small integers do not cross the border."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute

__all__ = ["BORDER", "strip_border_casts", "to_float32"]

_TO_FLOAT32 = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})

BORDER = frozenset({ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL})
"""Element types a segment's inputs and outputs can have (measured: others are refused or crash the compiler)."""

_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype", "softmax_precision", "stash_type")


def to_float32(model: ir.Model) -> None:
    """Turn float16, bfloat16 and float64 into float32 everywhere, in place.

    The NPU computes in float16 whatever the model says, and the toolkit's simulator refuses float64. Finite numbers
    beyond float32 become its largest, so that a mask of -1e300 does not turn into minus infinity.
    """
    graph = model.graph
    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        if isinstance(value.type, ir.TensorType) and value.dtype in _TO_FLOAT32:
            value.type = ir.TensorType(ir.DataType.FLOAT)
    for value in list(graph.initializers.values()):
        if value.const_value is not None and value.const_value.dtype in _TO_FLOAT32:
            value.const_value = _tensor(value.const_value)
            value.type = ir.TensorType(ir.DataType.FLOAT)
    for node in graph:
        for attr in list(node.attributes.values()):
            if attr.type == ir.AttributeType.TENSOR and attr.as_tensor().dtype in _TO_FLOAT32:
                node.attributes[attr.name] = ir.AttrTensor(attr.name, _tensor(attr.as_tensor()))
            elif attr.name in _TYPE_ATTRIBUTES and attr.type == ir.AttributeType.INT and attr.value in _TO_FLOAT32:
                node.attributes[attr.name] = ir.AttrInt64(attr.name, ir.DataType.FLOAT)


def strip_border_casts(model: ir.Model) -> None:
    """Let the caller do the casts at the border that the toolkit cannot do, in place.

    An input of a small integer type that is only cast to float comes as float32 instead; an output made by a cast
    from float32 to such a type leaves as float32.

    Raises:
        ModelError: An input or output of a type the toolkit does not take, without such a cast.
    """
    graph = model.graph
    for value in graph.inputs:
        if value.dtype in BORDER:
            continue
        users = value.consumers()
        if not users or any(not _is_cast(user, to=ir.DataType.FLOAT) for user in users) or value.is_graph_output():
            raise ModelError(_refusal("input", value))
        value.type = ir.TensorType(ir.DataType.FLOAT)
        for user in users:
            _drop(graph, user)
    for value in list(graph.outputs):
        if value.dtype in BORDER:
            continue
        node = value.producer()
        source = node.inputs[0] if node is not None else None
        if node is None or source is None or not _is_cast(node) or source.dtype != ir.DataType.FLOAT or value.uses():
            raise ModelError(_refusal("output", value))
        value.type = ir.TensorType(ir.DataType.FLOAT)
        _drop(graph, node)


def _drop(graph: ir.Graph, cast: ir.Node) -> None:
    """Remove a cast that no longer changes the type; one that gives an output of its own needs another op there."""
    source, result = cast.inputs[0], cast.outputs[0]
    assert source is not None
    if not result.is_graph_output():
        result.replace_all_uses_with(source)
        graph.remove(cast, safe=True)
        return
    maker = source.producer()
    if maker is None or source.is_graph_output():
        raise ModelError(f"output {result.name}: it is {source.name} in another type, nothing to compile")
    name, result.name = result.name, None
    source.name = name
    result.replace_all_uses_with(source, replace_graph_outputs=True)
    graph.remove(cast, safe=True)


def _is_cast(node: ir.Node, to: ir.DataType | None = None) -> bool:
    return node.op_type == "Cast" and not node.domain and (to is None or attribute(node, "to") == to)


def _refusal(what: str, value: ir.Value) -> str:
    given = onnx_graph.type_string(value.type) or "an unknown type"
    return f"{what} {value.name}: the toolkit does not take {given} there"


def _tensor(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    array = tensor.numpy()
    if tensor.dtype == ir.DataType.DOUBLE:
        limit = np.finfo(np.float32).max
        array = np.where(np.isfinite(array), np.clip(array, -limit, limit), array)
    return ir.tensor(np.asarray(array, dtype=np.float32), name=tensor.name)
