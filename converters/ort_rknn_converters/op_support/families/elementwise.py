"""Arithmetic, element by element."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.op_support.families.rule import FLOAT, NUMBER, Rule, check
from ort_rknn_converters.targets import Target

__all__ = ["RULES"]


@check("Max of one input crashes the compiler")
def _max_of_one(node: ir.Node, target: Target) -> bool:
    return len(node.inputs) == 1


@check("Sum of one input: no code for it in the compiler or the board's runtime")
def _sum_of_one(node: ir.Node, target: Target) -> bool:
    return len(node.inputs) == 1


@check("Mod without fmod is for integers")
def _integer_mod(node: ir.Node, target: Target) -> bool:
    return not attribute(node, "fmod", 0)


RULES = {
    "Abs": Rule(),
    "Add": Rule(),
    "Clip": Rule(constants=(1, 2)),
    "Cos": Rule(),
    "CumSum": Rule(inputs=(FLOAT, NUMBER), constants=(1,), ranks=(1, 4)),
    "Div": Rule(),
    "Exp": Rule(),
    "Floor": Rule(),
    "Log": Rule(),
    "Max": Rule(checks=(_max_of_one,)),
    "Mod": Rule(checks=(_integer_mod,)),
    "Mul": Rule(),
    "Neg": Rule(),
    "Pow": Rule(inputs=(FLOAT, NUMBER)),
    "Reciprocal": Rule(),
    "Round": Rule(),
    "Sin": Rule(),
    "Sqrt": Rule(),
    "Sub": Rule(),
    "Sum": Rule(checks=(_sum_of_one,)),
}
