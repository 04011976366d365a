"""Types and shapes that ONNX's own inference does not know: ONNX Runtime is asked, above all about its own ops."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.onnx_file import onnxruntime as ort

__all__ = ["infer_contrib"]

_BIG = 4096
"""Bytes above which a weight is only described, not given."""

_DTYPES = {onnx_graph.type_string(dtype): dtype for dtype in ir.DataType}


def infer_contrib(model: ir.Model) -> bool:
    """Fill in, in place, types and shapes that are still unknown: an op is not the standard's, or has no inference.

    The values in question are declared as graph outputs of a copy without weights, which is opened but never run.

    Returns:
        Whether anything was found out. Ops that onnxruntime does not know either leave things as they are.
    """
    unknown = [value for node in model.graph for value in node.outputs if value.name and _unknown(node, value)]
    if not unknown:
        return False
    try:
        data = _described(model, unknown).SerializeToString()
        session = ort.on_cpu(data, ort.quiet_options("ORT_DISABLE_ALL"))
    except Exception:  # onnxruntime's classes share no base below Exception
        return False
    found = {output.name: output for output in session.get_outputs()}
    learned = False
    for value in unknown:
        output = found[value.name or ""]
        dtype = _DTYPES.get(output.type)
        if dtype is not None and (value.type is None or _is_static(output.shape)):
            value.type = ir.TensorType(dtype)
            value.shape = ir.Shape(output.shape) if output.shape else None
            learned = True
    return learned


def _unknown(node: ir.Node, value: ir.Value) -> bool:
    """Also a shape with open dimensions, where the standard's inference could not have fixed them."""
    return value.type is None or (bool(node.domain) and onnx_graph.static_shape(value) is None)


def _is_static(shape: Sequence[object]) -> bool:
    return bool(shape) and all(isinstance(dim, int) for dim in shape)


def _described(model: ir.Model, outputs: list[ir.Value]) -> onnx.ModelProto:
    """The model with its big weights as inputs and ``outputs`` among its outputs."""
    graph = model.graph
    big = [
        value
        for value in graph.initializers.values()
        if not value.is_graph_input() and value.const_value is not None and value.const_value.nbytes > _BIG
    ]
    for value in big:
        graph.initializers.pop(value.name or "")
        graph.inputs.append(value)
    try:
        proto: onnx.ModelProto = ir.serde.serialize_model(model)
    finally:
        for _ in big:
            graph.inputs.pop()  # a slice deleted at once would leave the values marked as inputs
        for value in big:
            graph.register_initializer(value)
    proto.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in outputs if not value.is_graph_output())
    return proto
