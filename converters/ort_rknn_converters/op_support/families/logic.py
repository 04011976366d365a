"""Comparisons, truth values and selection."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.op_support.families.rule import BOOL, FLOAT, NUMBER, Rule, check
from ort_rknn_converters.targets import Target

__all__ = ["RULES"]


@check("Equal of floats: those less than an fp16 step apart would be equal on the NPU")
def _floats(node: ir.Node, target: Target) -> bool:
    return any(value is not None and value.dtype in FLOAT for value in node.inputs)


_COMPARE = Rule(inputs=(NUMBER,), outputs=(BOOL,), ranks=(0, 5))

RULES = {
    "And": Rule(inputs=(BOOL,), outputs=(BOOL,), ranks=(0, 5)),
    "Equal": Rule(inputs=(NUMBER,), outputs=(BOOL,), ranks=(0, 5), checks=(_floats,)),
    "Greater": _COMPARE,
    "GreaterOrEqual": _COMPARE,
    "Less": _COMPARE,
    "LessOrEqual": _COMPARE,
    "Not": Rule(inputs=(BOOL,), outputs=(BOOL,), ranks=(0, 5)),
    "Where": Rule(inputs=(BOOL, FLOAT, FLOAT), ranks=(0, 5)),
}
