"""A segment as the NPU stores it in fp16: weights and every node's outputs rounded, the arithmetic left in float32.

This is the rule of the vendor's own simulator, found by experiment; applied to the compiler's fused graph it gave a
43-node CNN bit for bit. Weights are rounded to float16 (but for one-dimensional ones, the biases, and scalars), and so
is what a node gives; graph inputs are not. Applied to the graph as it is, as here, it differs from the compiler's by as
much as float16 itself. It knows nothing of the NPU's accumulators, saturation or lookup tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["RULE", "round_to_fp16"]

RULE = "simulator-fp16-1"
"""Name of this rule and its version, for files that hold its results: raise it with every change of the numbers."""


def round_to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` that computes as the NPU does in fp16.

    After each node with a float output stands a pair of casts, float -> float16 -> float; onnxruntime keeps such pairs
    at every optimization level.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper, shape_inference

    floats = (TensorProto.FLOAT, TensorProto.DOUBLE)
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    graph = rounded.graph
    for tensor in graph.initializer:
        if tensor.data_type in floats and len(tensor.dims) > 1:
            tensor.CopyFrom(numpy_helper.from_array(_half(numpy_helper.to_array(tensor)), tensor.name))

    kinds = _element_types(graph)
    if any(name and not kinds.get(name) for node in graph.node for name in node.output):
        kinds = _element_types(shape_inference.infer_shapes(rounded).graph)  # reads and writes all the weights: slow
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        casts = []
        for place, name in enumerate(node.output):
            kind = kinds.get(name)
            if not name or kind not in floats or node.op_type == "Constant":
                continue
            raw, half = f"{name}/exact", f"{name}/fp16"
            node.output[place] = raw
            casts.append(helper.make_node("Cast", [raw], [half], to=TensorProto.FLOAT16))
            casts.append(helper.make_node("Cast", [half], [name], to=kind))
        graph.node.append(node)
        graph.node.extend(casts)
    return rounded


def _element_types(graph: onnx.GraphProto) -> dict[str, int]:
    """Element types of the values that are declared as tensors."""
    return {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.value_info, *graph.output)
        if value.type.HasField("tensor_type")
    }


def _half(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with np.errstate(over="ignore"):  # overflow gives infinity, as on the NPU
        return array.astype(np.float16).astype(array.dtype)
