"""Normalizations."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import attribute, is_used
from ort_rknn_converters.op_support.families.rule import Rule, check
from ort_rknn_converters.targets import Target

__all__ = ["RULES"]


@check("BatchNormalization in training mode: the toolkit refuses it")
def _training(node: ir.Node, target: Target) -> bool:
    return bool(attribute(node, "training_mode", 0)) or len(node.outputs) > 1


@check("LayerNormalization that also gives mean or deviation: not known to be in the board's runtime")
def _statistics(node: ir.Node, target: Target) -> bool:
    return any(map(is_used, node.outputs[1:]))


RULES = {
    "BatchNormalization": Rule(constants=(1, 2, 3, 4), ranks=(2, 5), checks=(_training,)),
    "InstanceNormalization": Rule(constants=(1, 2), ranks=(3, 4)),
    "LayerNormalization": Rule(constants=(1, 2), ranks=(1, 4), checks=(_statistics,)),
    "LpNormalization": Rule(ranks=(1, 4)),
}
