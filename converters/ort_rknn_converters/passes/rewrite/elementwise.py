"""Rewrites elementwise ops that the compiler has no lowering of into ops that it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["Ceil", "Logic", "MinMax", "Sign", "Sums", "Trigonometry"]


class Ceil(Rewrite):
    """Ceil as -Floor(-x): exact for every float, signed zeros included."""

    name = "ceil"
    op_types = frozenset({"Ceil"})
    says = "-Floor(-x)"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Ceil takes floats only."""
        return [tape.op("Neg", tape.op("Floor", tape.op("Neg", node.inputs[0])))]


class Logic(Rewrite):
    """Or and Xor from And and Not, by De Morgan's law: exact."""

    name = "logic"
    op_types = frozenset({"Or", "Xor"})
    says = "And and Not"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Xor: either, but not both."""
        a, b = node.inputs
        either = tape.op("Not", tape.op("And", tape.op("Not", a), tape.op("Not", b)))
        if node.op_type == "Or":
            return [either]
        return [tape.op("And", either, tape.op("Not", tape.op("And", a, b)))]


class MinMax(Rewrite):
    """Min as -Max(-a, -b), and either with one number as Clip.

    Exact, NaN and infinities included (which of 0 and -0 comes out may differ).

    Floats only: the negative of the smallest integer does not exist.
    """

    name = "min-max"
    op_types = frozenset({"Min", "Max"})
    says = "Clip, or Max of negatives"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """``Min`` of one value is that value; a ``Max`` of several stays."""
        if node.outputs[0].dtype not in FLOATS:
            return None
        if len(node.inputs) == 1:
            return [node.inputs[0]]
        clipped = _clipped(node, tape)
        if clipped is not None or node.op_type == "Max":
            return None if clipped is None else [clipped]
        return [tape.op("Neg", tape.op("Max", *(tape.op("Neg", value) for value in node.inputs)))]


def _clipped(node: ir.Node, tape: Tape) -> Any:
    """A ``Clip``, when one of two operands is a single known number that does not change the other's shape."""
    if len(node.inputs) != 2:
        return None
    for x, bound in (node.inputs, node.inputs[::-1]):
        tensor = onnx_graph.constant(bound)
        if x is None or x.shape is None or tensor is None or tensor.size != 1 or len(tensor.shape) > len(x.shape):
            continue
        limit = tensor.numpy().reshape(())
        if np.isnan(limit):
            continue
        # Both bounds are said: onnxruntime takes the largest finite number for a missing one, and infinities would go.
        low, high = (limit, np.inf) if node.op_type == "Max" else (-np.inf, limit)
        if tape.opset < 11:
            return tape.op("Clip", x, min=float(low), max=float(high))
        return tape.op("Clip", x, tape.const(low, x.dtype), tape.const(high, x.dtype))
    return None


class Sign(Rewrite):
    """Sign as two comparisons: 1 where x > 0, -1 where x < 0, else x itself: 0, or NaN. Exact."""

    name = "sign"
    op_types = frozenset({"Sign"})
    says = "comparisons with 0"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Integers stay with the CPU."""
        x = node.inputs[0]
        if x is None or x.dtype not in FLOATS:
            return None
        zero, one, minus_one = (tape.like(x, number) for number in (0, 1, -1))
        below = tape.op("Where", tape.op("Less", x, zero), minus_one, x)
        return [tape.op("Where", tape.op("Greater", x, zero), one, below)]


class Sums(Rewrite):
    """Sum and Mean of many as Adds from left to right, as in onnxruntime.

    A mean is then multiplied by 1/n (within one rounding).
    """

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
