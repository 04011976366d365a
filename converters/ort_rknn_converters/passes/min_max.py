"""Min -> -Max(-a, -b): the compiler has no lowering of Min."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["Min"]


class Min(Rewrite):
    """Exact, NaN and infinities included (which of 0 and -0 comes out may differ).

    Floats only: the negative of the smallest integer does not exist.
    """

    name = "min"
    op_types = frozenset({"Min"})
    says = "-Max(-a, -b)"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """``Min`` of one value is that value."""
        if node.outputs[0].dtype not in FLOATS:
            return None
        if len(node.inputs) == 1:
            return [node.inputs[0]]
        return [tape.op("Neg", tape.op("Max", *(tape.op("Neg", value) for value in node.inputs)))]
