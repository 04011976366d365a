"""Gather, scatter and one-hot: ops that take positions."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.op_support.families.rule import FLOAT, INDEX, NUMBER, Rule, check, dims, is_constant
from ort_rknn_converters.targets import Target

__all__ = ["RULES"]


@check("ScatterND with a reduction: not known to be in the board's runtime")
def _scatter_reduction(node: ir.Node, target: Target) -> bool:
    return bool(attribute(node, "reduction", "none") != "none")


# One number for each pair of a fixed position and a place it may mean. Measured: 5.5 MB of code for a table of 4.2 MB.
_TABLE_MB = 4


@check(f"GatherElements by fixed positions: the compiler makes a table of more than {_TABLE_MB} MB of them")
def _large_table(node: ir.Node, target: Target) -> bool:
    data, positions = node.inputs[0], node.inputs[1]
    if positions is None or not is_constant(positions):
        return False
    places = dims(data)[attribute(node, "axis", 0)] if dims(data) else 1
    return 2 * places * prod(dims(positions)) > _TABLE_MB << 20


@check("ReverseSequence needs two to four dimensions")
def _reverse_rank(node: ir.Node, target: Target) -> bool:
    return not 2 <= len(dims(node.inputs[0])) <= 4


RULES = {
    "Gather": Rule(inputs=(FLOAT, INDEX)),
    "GatherElements": Rule(inputs=(FLOAT, INDEX), ranks=(1, 4), checks=(_large_table,)),
    "OneHot": Rule(inputs=(INDEX, NUMBER, FLOAT), constants=(1, 2), ranks=(1, 3)),
    "ReverseSequence": Rule(inputs=(FLOAT, INDEX), checks=(_reverse_rank,)),
    "ScatterND": Rule(inputs=(FLOAT, INDEX, FLOAT), ranks=(1, 4), checks=(_scatter_reduction,)),
}
