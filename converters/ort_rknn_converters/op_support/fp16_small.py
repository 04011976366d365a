"""Small numbers that fp16 loses: roots of differences that are rounded below zero, logarithms of what became zero.

Neither shows on random inputs. Seen on real ones: distances to the centres of clusters were NaN, and so is the spectrum
of silence, whose least value of 1e-10 is zero in fp16.
"""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph.dataflow import DataFlow
from ort_rknn_converters.graph.nodes import operand
from ort_rknn_converters.op_support.families.rule import constant

__all__ = ["ROOT_REASON", "VANISHING_REASON", "small_paths"]

ROOT_REASON = "the root of a difference, which rounded to fp16 may fall below zero"
VANISHING_REASON = "the logarithm of numbers that are zero in fp16"

_VANISHES = 2.0**-25  # half of the smallest number that fp16 has
_DEEP = 12  # nodes looked back at: a variance written out has eight. A guess.

_RELABEL = frozenset(
    {"Cast", "Concat", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose"}
) | {"Unsqueeze"}
_ALIKE = _RELABEL | {"Gather", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"}
_NEVER_NEGATIVE = frozenset(
    {"Abs", "Exp", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt"}
)
# What a difference is made of: all of it in float32, or the difference is lost before it is taken.
_ARITHMETIC = _RELABEL | {"Add", "Div", "Mul", "Neg", "Sub"}
_ITS_PARTS = frozenset({"Gemm", "MatMul", "Pow", "ReduceMean", "ReduceSum", "ReduceSumSquare"})


def small_paths(flow: DataFlow) -> dict[int, str]:
    """Nodes that must stay on the CPU for it, with the reason."""
    found: dict[int, str] = {}
    for index, node in enumerate(flow.nodes):
        value = operand(node, 0)
        if node.op_type == "Sqrt" and _may_fall_below_zero(value):
            found |= dict.fromkeys([index, *_computation(flow, value)], ROOT_REASON)
        elif node.op_type == "Log":
            found |= dict.fromkeys(_with_floor(flow, index), VANISHING_REASON)
    return found


def _may_fall_below_zero(value: ir.Value | None, depth: int = 0) -> bool:
    """Whether the value is a sum with parts of both signs, as far as can be seen; nothing else is suspected."""
    node = value.producer() if value is not None else None
    if node is None or depth > _DEEP:
        return False
    if node.op_type == "Sub":
        return True
    if node.op_type in _RELABEL:
        return _may_fall_below_zero(node.inputs[0], depth + 1)
    if node.op_type in ("Add", "Div", "Mul"):
        fixed = [constant(node, position) is not None for position in (0, 1)]
        if any(fixed):
            return _may_fall_below_zero(node.inputs[fixed.index(False)] if not all(fixed) else None, depth + 1)
        return node.op_type == "Add" and not (_not_negative(node.inputs[0]) and _not_negative(node.inputs[1]))
    return False


def _not_negative(value: ir.Value | None, depth: int = 0) -> bool:
    node = value.producer() if value is not None else None
    if value is not None and value.const_value is not None and not value.is_graph_input():
        return bool((value.const_value.numpy() >= 0).all())
    if node is None or depth > _DEEP:
        return False
    if node.op_type in _NEVER_NEGATIVE:
        return True
    if node.op_type in _ALIKE:
        return _not_negative(node.inputs[0], depth + 1)
    if node.op_type == "Mul" and node.inputs[0] is node.inputs[1]:
        return True
    if node.op_type == "Pow":
        exponent = constant(node, 1)
        return exponent is not None and bool((exponent % 2 == 0).all())
    if node.op_type in ("Add", "Div", "Mul"):
        return _not_negative(node.inputs[0], depth + 1) and _not_negative(node.inputs[1], depth + 1)
    if node.op_type in ("Clip", "Max"):
        floor = constant(node, 1)
        return floor is not None and bool((floor >= 0).all())
    return False


def _computation(flow: DataFlow, value: ir.Value | None) -> set[int]:
    """The arithmetic behind a value, and the products and sums it begins with."""
    found: set[int] = set()
    waiting = [value]
    while waiting:
        value = waiting.pop()
        index = -1 if value is None else flow.maker.get(value, -1)
        if index < 0 or index in found:
            continue
        node = flow.nodes[index]
        if node.op_type in _ARITHMETIC | _ITS_PARTS:
            found.add(index)
        if node.op_type in _ARITHMETIC:
            waiting += node.inputs
    return found


def _with_floor(flow: DataFlow, log: int) -> list[int]:
    """A Log and the nodes up to one that keeps its input above a number that is zero in fp16; none without."""
    found, value = [log], operand(flow.nodes[log], 0)
    while value is not None and (index := flow.maker.get(value, -1)) >= 0:
        node = flow.nodes[index]
        found.append(index)
        if node.op_type in ("Add", "Clip", "Max"):
            floors = [constant(node, position) for position in ((1,) if node.op_type == "Clip" else (0, 1))]
            low = [floor for floor in floors if floor is not None and floor.size]
            return found if any(((floor > 0) & (floor < _VANISHES)).any() for floor in low) else []
        if node.op_type not in _RELABEL:
            return []
        value = node.inputs[0]
    return []
