"""MatMul of one column and one row -> Mul: there is nothing to add up."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import operands
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["OuterProduct"]


class OuterProduct(Rewrite):
    """Exact. Seen in linear attention: with such a product among its nodes the compiled code was 98 % off."""

    name = "outer-product"
    op_types = frozenset({"MatMul"})
    says = "Mul: the matrices have one column and one row"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Vectors are left alone: they lose their dimension."""
        column, row = operands(node, 2)
        left, right = onnx_graph.static_shape(column), onnx_graph.static_shape(row)
        if column is None or column.dtype not in FLOATS or left is None or right is None:
            return None
        if min(len(left), len(right)) < 2 or left[-1] != 1:
            return None
        return [tape.op("Mul", column, row)]
