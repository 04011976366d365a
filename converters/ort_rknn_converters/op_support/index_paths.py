"""Whole numbers computed from floats: paths that must not touch the NPU, because fp16 counts exactly only to 2048.

Seen: float -> int64 -> Gather inside a compiled model asked for row 10000 instead of 9999; and quantized values that
were one off, because what was rounded came back from fp16 on the other side of a half.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph.dataflow import DataFlow
from ort_rknn_converters.graph.nodes import operand
from ort_rknn_converters.graph.onnx_graph import constant
from ort_rknn_converters.op_support.families.rule import BOOL, FLOAT, INDEX
from ort_rknn_converters.util.frozen import frozen

__all__ = ["DECIDING_REASON", "REASON", "WHOLE_REASON", "deciding_paths", "index_paths", "whole_paths"]

REASON = "index computed in fp16 would be wrong above 2048"
WHOLE_REASON = "whole number computed in fp16 could be off by one"
DECIDING_REASON = "decides by numbers that fp16 would round"

_FLOATING = FLOAT | {ir.DataType.DOUBLE}
_LOOKED_AT = 1 << 16  # elements of a constant that is compared with (a guess)

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

# Which inputs of an op are positions, sizes, counts or what decides about them.
_POSITIONS: dict[str, tuple[int, ...]] = {
    "AffineGrid": (0, 1),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "DFT": (1, 2),
    "DeformConv": (1,),
    "Expand": (1,),
    "Gather": (1,),
    "GatherElements": (1,),
    "GatherND": (1,),
    "GridSample": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxRoiPool": (1,),
    "MaxUnpool": (1, 2),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "NegativeLogLikelihoodLoss": (1,),
    "NonMaxSuppression": (0, 1, 2, 3, 4),
    "NonZero": (0,),
    "OneHot": (0, 1),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "ReverseSequence": (1,),
    "RoiAlign": (1, 2),
    "RotaryEmbedding": (3,),
    "STFT": (1, 3),
    "Scatter": (1,),
    "ScatterElements": (1,),
    "ScatterND": (1,),
    "SequenceAt": (1,),
    "SequenceErase": (1,),
    "SequenceInsert": (2,),
    "Slice": (1, 2, 3, 4),
    "SoftmaxCrossEntropyLoss": (1,),
    "Split": (1,),
    "SplitToSequence": (1,),
    "TensorScatter": (2,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unique": (0,),
    "Upsample": (1,),
}

# They change no digit, though fp16 rounds what they pass on.
_RELABEL = frozenset(
    {"Abs", "Cast", "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Max", "Min"}
    | {"Neg", "Pad", "ReduceMax", "ReduceMin", "Relu", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose"}
    | {"Clip", "Range", "Sign", "Unsqueeze", "Where"}
)
# Arithmetic that belongs to the computation of a position. Anything heavier is the network itself, whose result is
# rounded like every other; the functions are what a network's last number becomes a position by.
_ARITHMETIC = _RELABEL | frozenset(
    {
        "Add",
        "Atan",
        "Ceil",
        "Cos",
        "CumSum",
        "Div",
        "Erf",
        "Exp",
        "Floor",
        "HardSigmoid",
        "GlobalAveragePool",
        "Log",
        "Mean",
        "Mod",
    }
    | {"Mul", "Pow", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare"}
    | {"Round", "Sigmoid", "Sin", "Softplus", "Sqrt", "Sub", "Sum", "Tan", "Tanh"}
)
_LOGIC = frozenset({"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor"})
_COMPARES = _LOGIC - {"And", "Not", "Or", "Xor"}
# A step away in their operand is another answer: of a whole number, or of an angle that grows with a position.
_JUMPS = frozenset({"Ceil", "Cos", "Floor", "Mod", "Round", "Sign", "Sin"})
_MEANS = frozenset({"GlobalAveragePool", "ReduceMean"})
_ANGLES = frozenset({"Cos", "Sin"})

# Their positions are whole numbers from the start, whatever was rounded before.
_EXACT = frozenset({"ArgMax", "ArgMin", "TopK", "NonZero", "NonMaxSuppression", "Shape", "Size", "Unique", "MaxPool"})

# The work of a network: what is rounded before it is only rounded, not decided by.
_NETWORK = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_FAR = 12  # steps of arithmetic from which on it is a network of its own. A guess.
_NEAR = 12  # nodes between a rounding and the network behind it: fake quantization has four. A guess.


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
    return _walk(flow, [value for index in casts for value in flow.reads[index] if value.dtype in FLOAT], {"Relu"})


def deciding_paths(flow: DataFlow) -> dict[int, str]:
    """Indices of the nodes that decide by floats which can be computed exactly, and of the arithmetic before them.

    Comparisons, roundings, angles and distances from the mean of what the caller gives, with no network in between:
    ids as floats, lengths, time steps, temperatures. Where a network made one side, rounding has changed it
    already, and the node may stay on the NPU.

    Returns:
        Index -> reason.
    """
    ways = _ways(flow)
    deciding: list[int] = []
    roots: list[ir.Value] = []
    for index, node in enumerate(flow.nodes):
        sides = [value for value in node.inputs if value is not None and value.dtype in FLOAT]
        before = [ways.get(flow.maker.get(value, -1), _START) for value in sides]
        if node.op_type in _COMPARES:
            exact = [one for one in before if one.exact]
            if node.op_type != "Equal" and (exact != before or any(map(_is_sentinel, sides))):
                continue  # Equal is on the CPU anyhow
            if any(one is not _START for one in exact) or any(map(_lost, sides)):
                deciding.append(index)
                roots += [value for value, one in zip(sides, before, strict=True) if one.exact]
        elif node.op_type == "Sub" and len(sides) == 2 and all(one.exact for one in before) and _is_mean(sides[1]):
            deciding.append(index)
            roots += sides
        elif node.op_type in _JUMPS and before and before[0].lossy:
            angle = node.op_type in _ANGLES
            if (before[0].exact and (before[0].given or not angle)) or not (angle or ways[index].quantizes):
                deciding.append(index)
                roots.append(sides[0])
    return dict.fromkeys((*_rounded_before(flow, _arithmetic(flow, roots)), *deciding), DECIDING_REASON)


@frozen
class _Way:
    """The arithmetic behind a node's results, the node included.

    Attributes:
        exact: Whether it begins with nothing but constants and what the caller gives, not too many steps before.
        lossy: Whether it does more than pass on digits.
        quantizes: Whether a network reads the results soon. What is rounded before that is quantized by hand, and a
            step more or less is no harm.
        steps: How many nodes of arithmetic it has in a row.
        given: Whether the caller gives floats or several numbers, not only a size.
    """

    exact: bool
    lossy: bool
    quantizes: bool = False
    steps: int = 0
    given: bool = False


_START = _Way(exact=True, lossy=False)


def _ways(flow: DataFlow) -> dict[int, _Way]:
    """The way to each node, by index."""
    steps: dict[int, int] = {}
    for index in reversed(range(len(flow.nodes))):
        takers = flow.after[index]
        near = min((steps[taker] for taker in takers), default=_NEAR)
        steps[index] = 0 if any(flow.nodes[taker].op_type in _NETWORK for taker in takers) else min(_NEAR, near + 1)
    ways: dict[int, _Way] = {}
    for index, node in enumerate(flow.nodes):
        before = [ways[maker] for maker in flow.before[index]]
        near = steps[index] < _NEAR
        if node.op_type in _EXACT:
            ways[index] = _Way(exact=node.op_type != "MaxPool", lossy=False, quantizes=near)
        elif node.op_type in _ARITHMETIC | _LOGIC:
            lossy = node.op_type not in _RELABEL | _LOGIC or any(one.lossy for one in before)
            far = 1 + max((one.steps for one in before), default=0)
            given = any(one.given for one in before) or any(map(_is_given, flow.reads[index]))
            ways[index] = _Way(far <= _FAR and all(one.exact for one in before), lossy, near, far, given)
        else:
            ways[index] = _Way(exact=False, lossy=False, quantizes=near)
    return ways


def _is_mean(value: ir.Value) -> bool:
    """Whether the value is a mean: what is left after it may be small beside what was there."""
    node = value.producer()
    while node is not None and node.op_type in _RELABEL:
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    return node is not None and node.op_type in _MEANS


def _arithmetic(flow: DataFlow, waiting: list[ir.Value]) -> set[int]:
    """The arithmetic, comparisons included, that these values come from."""
    found: set[int] = set()
    while waiting:
        index = flow.maker.get(waiting.pop(), -1)
        if index >= 0 and index not in found and flow.nodes[index].op_type in _ARITHMETIC | _LOGIC:
            found.add(index)
            waiting += flow.reads[index]
    return found


def _is_given(value: ir.Value) -> bool:
    return value.is_graph_input() and (value.dtype in FLOAT or bool(value.shape is not None and len(value.shape)))


def _lost(value: ir.Value) -> bool:
    """Whether the value is a constant that fp16 does not hold exactly; beyond its range all compare alike."""
    before, after = _rounded(value)
    return bool(((before != after) & np.isfinite(after)).any())


def _is_sentinel(value: ir.Value) -> bool:
    """Whether the value is a constant beyond fp16's range: what is compared with it is a mask, not a number."""
    before, after = _rounded(value)
    return bool(before.size) and not np.isfinite(after).any()


def _rounded(value: ir.Value) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A constant's numbers, and the same in fp16; none of what is no constant."""
    tensor = constant(value)
    if tensor is None or value.dtype not in FLOAT or tensor.size > _LOOKED_AT:
        return np.empty(0), np.empty(0)
    array = np.asarray(tensor.numpy())
    with np.errstate(over="ignore"):
        return array, array.astype(np.float16).astype(array.dtype)


def _walk(flow: DataFlow, waiting: list[ir.Value], ends: Set[str] = frozenset()) -> set[int]:
    """The arithmetic that these values come from; some ops end it."""
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
        if value.dtype in _FLOATING:
            if node.op_type not in _ARITHMETIC - ends:
                continue
            found.add(index)
            waiting += [one for one in taken if one.dtype in _FLOATING | INDEX | BOOL]
        elif value.dtype in BOOL:
            if node.op_type not in _LOGIC | _RELABEL:
                continue
            if any(one.dtype in _FLOATING for one in taken):
                found.add(index)
            waiting += [one for one in taken if one.dtype in _FLOATING | INDEX | BOOL]
        elif value.dtype in INDEX and node.op_type not in _EXACT:
            if any(one.dtype in _FLOATING for one in taken):
                found.add(index)
            waiting += [one for one in taken if one.dtype in _FLOATING | INDEX | BOOL]
    return _rounded_before(flow, found)


def _rounded_before(flow: DataFlow, found: set[int]) -> set[int]:
    """The nodes without those that only pass on what a network made: that is rounded, and stays what it is."""
    kept = set(found)
    for index in sorted(found):
        node = flow.nodes[index]
        makers = [flow.maker.get(value, -1) for value in flow.reads[index]]
        floats = [value for value in node.inputs if value is not None and value.dtype in _FLOATING]
        alone = len(floats) == len(makers) and all(maker >= 0 and maker not in kept for maker in makers)
        if node.op_type in _RELABEL and alone:
            kept.discard(index)
    return kept
