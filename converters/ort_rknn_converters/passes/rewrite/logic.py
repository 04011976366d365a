"""Or and Xor from And and Not: the compiler has no lowering of Or and Xor."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ort_rknn_converters.passes.base import Rewrite, Tape

__all__ = ["Logic"]


class Logic(Rewrite):
    """De Morgan; exact."""

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
