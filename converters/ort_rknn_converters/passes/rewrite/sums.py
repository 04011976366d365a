"""Sum and Mean of many -> Adds: the compiler knows Add only."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["Sums"]


class Sums(Rewrite):
    """Added from left to right, as onnxruntime does; a mean is then multiplied by 1/n (within one rounding)."""

    name = "sums"
    op_types = frozenset({"Sum", "Mean"})
    says = "Add"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Both ops take floats only."""
        values = [value for value in node.inputs if value is not None]
        total = values[0]
        if total.dtype not in FLOATS:
            return None
        for value in values[1:]:
            total = tape.op("Add", total, value)
        if node.op_type == "Mean" and len(values) > 1:
            total = tape.op("Mul", total, tape.like(total, 1 / len(values)))
        return [total]
