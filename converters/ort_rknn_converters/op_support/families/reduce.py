"""Reductions, and the ops that answer with positions."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.op_support.families.rule import FLOAT, INDEX, Rule, check, dims
from ort_rknn_converters.targets import Target

__all__ = ["RULES"]


@check("reduction to more than 4 dimensions: no code for it in the compiler or the board's runtime")
def _wide_result(node: ir.Node, target: Target) -> bool:
    return len(dims(node.outputs[0])) > 4


_REDUCE = Rule(inputs=(FLOAT, INDEX), constants=(1,), ranks=(1, 5), checks=(_wide_result,))
_POSITION = Rule(outputs=(INDEX,), ranks=(1, 4))

RULES = {
    "ArgMax": _POSITION,
    "ArgMin": _POSITION,
    "ReduceL2": _REDUCE,
    "ReduceMax": _REDUCE,
    "ReduceMean": _REDUCE,
    "ReduceMin": _REDUCE,
    "ReduceSum": _REDUCE,
    "TopK": Rule(inputs=(FLOAT, INDEX), outputs=(FLOAT, INDEX), constants=(1,), ranks=(1, 4)),
}
