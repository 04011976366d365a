"""Sign -> two comparisons: the compiler has no lowering of Sign."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["Sign"]


class Sign(Rewrite):
    """1 where x > 0, minus 1 where x < 0; exact, and 0 for NaN and both zeros as onnxruntime has it."""

    name = "sign"
    op_types = frozenset({"Sign"})
    says = "comparisons with 0"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Integers stay with the CPU."""
        x = node.inputs[0]
        if x is None or x.dtype not in FLOATS:
            return None
        zero, to = tape.like(x, 0), int(x.dtype)
        above = tape.op("Cast", tape.op("Greater", x, zero), to=to)
        below = tape.op("Cast", tape.op("Less", x, zero), to=to)
        return [tape.op("Sub", above, below)]
