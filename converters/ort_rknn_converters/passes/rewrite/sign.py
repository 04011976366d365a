"""Sign -> two comparisons: the compiler has no lowering of Sign."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["Sign"]


class Sign(Rewrite):
    """1 where x > 0, -1 where x < 0, else x itself: 0, or NaN. Exact."""

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
