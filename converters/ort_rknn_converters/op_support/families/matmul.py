"""Matrix products."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import operand
from ort_rknn_converters.op_support.families.rule import Rule, check, dims, is_constant
from ort_rknn_converters.targets import Target

__all__ = ["RULES"]


@check("Gemm with a bias of one element computed at run time: the toolkit refuses it")
def _moving_scalar_bias(node: ir.Node, target: Target) -> bool:
    bias = operand(node, 2)
    return bias is not None and not is_constant(bias) and prod(dims(bias)) == 1


@check("MatMul that broadcasts both sides: the compiler has no lowering")
def _broadcast_both(node: ir.Node, target: Target) -> bool:
    first, second = (dims(value)[:-2] for value in node.inputs[:2])
    whole = dims(node.outputs[0])[: max(len(first), len(second))]
    return prod(first) != prod(whole) and prod(second) != prod(whole)


# Rank 4 is the largest the vendor lists for MatMul; larger batches come from window attention and stay on the CPU.
RULES = {
    "Gemm": Rule(ranks=(2, 2), checks=(_moving_scalar_bias,)),
    "MatMul": Rule(ranks=(1, 4), checks=(_broadcast_both,)),
}
