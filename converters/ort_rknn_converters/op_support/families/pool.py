"""Pooling."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.op_support.families.rule import FLOAT, INDEX, Rule, check, dims
from ort_rknn_converters.targets import Target

__all__ = ["RULES"]

# The pooling unit's register for a width or height holds 13 bits of size minus one. The compiler reports the overflow
# and delivers all the same (seen for rk3588, rk3576 and rk3566 with 8194, not with 8192; users of boards report wrong
# results for such files).
_WIDEST = 8192


@check("MaxPool3d aborts the compiler")
def _max_3d(node: ir.Node, target: Target) -> bool:
    return len(dims(node.inputs[0])) == 5


@check("AveragePool3d with dilations: the toolkit refuses it")
def _dilated_average_3d(node: ir.Node, target: Target) -> bool:
    return len(dims(node.inputs[0])) == 5 and any(step != 1 for step in attribute(node, "dilations", ()))


@check("RoiAlign in max mode aborts the compiler")
def _roi_max(node: ir.Node, target: Target) -> bool:
    return bool(attribute(node, "mode", "avg") != "avg")


@check("RoiAlign of a batch: the board's runtime has it for batch 1 only")
def _roi_batch(node: ir.Node, target: Target) -> bool:
    return dims(node.inputs[0])[0] != 1


@check(f"pooling of more than {_WIDEST} rows or columns: they do not fit the NPU's registers")
def _too_wide(node: ir.Node, target: Target) -> bool:
    return any(size > _WIDEST for size in dims(node.inputs[0])[2:])


RULES = {
    "AveragePool": Rule(ranks=(3, 5), checks=(_dilated_average_3d, _too_wide)),
    "GlobalAveragePool": Rule(ranks=(3, 5)),
    "GlobalMaxPool": Rule(ranks=(3, 4)),
    "MaxPool": Rule(outputs=(FLOAT, INDEX), ranks=(3, 5), checks=(_max_3d, _too_wide)),
    "MaxRoiPool": Rule(ranks=(4, 4)),
    "MaxUnpool": Rule(inputs=(FLOAT, INDEX), constants=(2,), ranks=(3, 4)),
    "RoiAlign": Rule(inputs=(FLOAT, FLOAT, INDEX), ranks=(4, 4), checks=(_roi_max, _roi_batch)),
}
