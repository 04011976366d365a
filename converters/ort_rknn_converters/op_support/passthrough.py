"""Nodes whose output is their input under another name. The toolkit removes them, and with them a segment's output."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.op_support.families.rule import FLOAT, constant, dims

__all__ = ["passes_through"]

_RELABEL = frozenset({"Expand", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Tile", "Resize", "Upsample", "Pad"})
_ONE_INPUT = frozenset({"Concat", "Max", "Min", "Mean", "Sum"})

# Constants that change nothing, and at which inputs they may stand.
_NEUTRAL = {"Add": (0.0, (0, 1)), "Sub": (0.0, (1,)), "Mul": (1.0, (0, 1)), "Div": (1.0, (1,)), "Pow": (1.0, (1,))}


def passes_through(node: ir.Node) -> ir.Value | None:
    """The input that the first output only repeats, or ``None`` when the node does something.

    ``node`` must be one the NPU may have: types and shapes known.
    """
    source = node.inputs[0] if node.inputs else None
    if source is None or not node.outputs:
        return None
    kind, result = node.op_type, node.outputs[0]
    same_shape = dims(source) == dims(result)
    if kind in _NEUTRAL:
        return _unchanged(node)
    if kind in ("Identity", "Dropout"):
        return source
    if kind == "Cast":
        # To the toolkit every float is a float.
        return source if source.dtype == result.dtype or {source.dtype, result.dtype} <= FLOAT else None
    if kind in _RELABEL:
        return source if same_shape else None
    if kind in _ONE_INPUT:
        return source if len(node.inputs) == 1 else None
    if kind == "Transpose":
        order = list(attribute(node, "perm", range(len(dims(source)))[::-1]))
        return source if order == sorted(order) else None
    if kind == "Slice":
        steps = constant(node, 4)
        return source if same_shape and (steps is None or bool((steps > 0).all())) else None
    if kind == "Split":
        return source if len(node.outputs) == 1 else None
    return None


def _unchanged(node: ir.Node) -> ir.Value | None:
    neutral, positions = _NEUTRAL[node.op_type]
    for position in positions:
        array = constant(node, position)
        other = node.inputs[1 - position]
        if array is not None and bool((array == neutral).all()) and dims(other) == dims(node.outputs[0]):
            return other
    return None
