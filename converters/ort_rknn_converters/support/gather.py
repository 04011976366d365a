"""Gather, scatter and one-hot: ops that take positions."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.nodes import attribute
from ort_rknn_converters.support.rule import FLOAT, INDEX, NUMBER, Rule, check, dims
from ort_rknn_converters.targets import Target

__all__ = ["RULES"]


@check("ScatterND with a reduction: not known to be in the board's runtime")
def _scatter_reduction(node: ir.Node, target: Target) -> bool:
    return bool(attribute(node, "reduction", "none") != "none")


@check("ReverseSequence needs two to four dimensions")
def _reverse_rank(node: ir.Node, target: Target) -> bool:
    return not 2 <= len(dims(node.inputs[0])) <= 4


RULES = {
    "Gather": Rule(inputs=(FLOAT, INDEX)),
    "GatherElements": Rule(inputs=(FLOAT, INDEX), ranks=(1, 4)),
    "OneHot": Rule(inputs=(INDEX, NUMBER, FLOAT), constants=(1, 2), ranks=(1, 3)),
    "ReverseSequence": Rule(inputs=(FLOAT, INDEX), checks=(_reverse_rank,)),
    "ScatterND": Rule(inputs=(FLOAT, INDEX, FLOAT), ranks=(1, 4), checks=(_scatter_reduction,)),
}
