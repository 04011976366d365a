"""ReduceL1, ReduceSumSquare and ReduceLogSum by way of ReduceSum, which the compiler lowers."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, operand
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["Reductions"]


class Reductions(Rewrite):
    """The definitions, written out. Floats only: integers would overflow elsewhere. NaN and infinities as before."""

    name = "reductions"
    op_types = frozenset({"ReduceL1", "ReduceSumSquare", "ReduceLogSum"})
    says = "ReduceSum"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Left alone: axes that are only known at run time, and no axes with ``noop_with_empty_axes``."""
        x = node.inputs[0]
        if x is None or x.dtype not in FLOATS:
            return None
        axes = attribute(node, "axes")
        if (given := operand(node, 1)) is not None:
            known = onnx_graph.constant(given)
            if known is None:
                return None
            axes = known.numpy().tolist()
        if not axes and attribute(node, "noop_with_empty_axes", 0):
            return None
        if node.op_type == "ReduceL1":
            x = tape.op("Abs", x)
        elif node.op_type == "ReduceSumSquare":
            x = tape.op("Mul", x, x)
        total = tape.reduce("ReduceSum", x, axes or None, keepdims=bool(attribute(node, "keepdims", 1)))
        return [tape.op("Log", total) if node.op_type == "ReduceLogSum" else total]
