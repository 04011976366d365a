"""Tan and Cosh from ops the compiler lowers; the other such functions would lose digits and stay."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["Trigonometry"]


class Trigonometry(Rewrite):
    """Tan = sin/cos and Cosh = (exp(x) + exp(-x)) / 2, both within a few roundings.

    Cosh overflows at |x| > 88.7 instead of 89.4. Sinh, Asinh and Atanh written like this cancel around 0.
    """

    name = "trigonometry"
    op_types = frozenset({"Tan", "Cosh"})
    says = "its definition"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Both ops take floats only."""
        x = node.inputs[0]
        if x is None or x.dtype not in FLOATS:
            return None
        if node.op_type == "Tan":
            return [tape.op("Div", tape.op("Sin", x), tape.op("Cos", x))]
        both = tape.op("Add", tape.op("Exp", x), tape.op("Exp", tape.op("Neg", x)))
        return [tape.op("Mul", both, tape.like(x, 0.5))]
