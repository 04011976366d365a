"""Whole numbers computed from floats: paths that must not touch the NPU, because fp16 counts exactly only to 2048.

Seen: float -> int64 -> Gather inside a compiled model asked for row 10000 instead of 9999; and quantized values that
were one off, because what was rounded came back from fp16 on the other side of a half.
"""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph.dataflow import DataFlow
from ort_rknn_converters.graph.nodes import operand
from ort_rknn_converters.op_support.families.rule import FLOAT, INDEX

__all__ = ["REASON", "WHOLE_REASON", "index_paths", "whole_paths"]

REASON = "index computed in fp16 would be wrong above 2048"
WHOLE_REASON = "whole number computed in fp16 could be off by one"

_WHOLE = INDEX | frozenset(
    {
        ir.DataType.INT4,
        ir.DataType.INT8,
        ir.DataType.INT16,
        ir.DataType.UINT4,
        ir.DataType.UINT8,
        ir.DataType.UINT16,
        ir.DataType.UINT32,
        ir.DataType.UINT64,
    }
)

# Which inputs of an op are positions, sizes or counts.
_POSITIONS: dict[str, tuple[int, ...]] = {
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Gather": (1,),
    "GatherElements": (1,),
    "GatherND": (1,),
    "OneHot": (0, 1),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "ReverseSequence": (1,),
    "RoiAlign": (2,),
    "ScatterElements": (1,),
    "ScatterND": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
}

# Arithmetic that belongs to the computation of a position. Anything heavier is the network itself, whose result is
# rounded like every other.
_ARITHMETIC = frozenset(
    {"Abs", "Add", "Cast", "Ceil", "Clip", "Concat", "CumSum", "Div", "Expand", "Flatten", "Floor", "Identity", "Max"}
    | {"Min", "Mod", "Mul", "Neg", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMin", "ReduceSum", "Reshape"}
    | {"Round", "Slice", "Sqrt", "Squeeze", "Sub", "Sum", "Tile", "Transpose", "Unsqueeze", "Where"}
)

# Their positions are whole numbers from the start, whatever was rounded before.
_EXACT = frozenset({"ArgMax", "ArgMin", "TopK", "NonZero", "NonMaxSuppression", "Shape", "Size", "Unique", "MaxPool"})


def index_paths(flow: DataFlow) -> set[int]:
    """Indices of the nodes that compute positions from floats: the Cast, and the arithmetic before it."""
    waiting = [
        value
        for node in flow.nodes
        for position in _POSITIONS.get(node.op_type, ())
        if (value := operand(node, position)) is not None
    ]
    return _walk(flow, waiting)


def whole_paths(flow: DataFlow) -> set[int]:
    """Indices of the nodes whose floats become whole numbers: the arithmetic before a Cast (which is refused itself).

    What a network computes and only then rounds is rounded a little differently on the NPU; that cannot be helped. But
    scales, zero points and quantized values are a few cheap nodes, and exact on the CPU.
    """
    casts = (
        index for index, node in enumerate(flow.nodes) if node.op_type == "Cast" and node.outputs[0].dtype in _WHOLE
    )
    return _walk(flow, [value for index in casts for value in flow.reads[index] if value.dtype in FLOAT])


def _walk(flow: DataFlow, waiting: list[ir.Value]) -> set[int]:
    """The arithmetic that these values come from."""
    seen: set[ir.Value] = set()
    found: set[int] = set()
    while waiting:
        value = waiting.pop()
        index = flow.maker.get(value, -1)
        if index < 0 or value in seen:
            continue
        seen.add(value)
        node = flow.nodes[index]
        taken = flow.reads[index]
        if value.dtype in FLOAT:
            if node.op_type not in _ARITHMETIC:
                continue
            found.add(index)
            waiting += [one for one in taken if one.dtype in FLOAT]
        elif value.dtype in INDEX and node.op_type not in _EXACT:
            if any(one.dtype in FLOAT for one in taken):
                found.add(index)
            waiting += [one for one in taken if one.dtype in FLOAT | INDEX]
    return found
