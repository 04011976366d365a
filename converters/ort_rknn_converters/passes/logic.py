"""Or and Xor from And and Not: the compiler has no lowering of Or and Xor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from ort_rknn_converters.passes.base import Rewrite, Tape

__all__ = ["Logic"]


class Logic(Rewrite):
    """De Morgan; exact."""

    name = "logic"
    op_types = frozenset({"Or", "Xor"})
    says = "And and Not"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Xor is "one, but not both"."""
        a, b = node.inputs
        both: Any = tape.op("Not", tape.op("And", tape.op("Not", a), tape.op("Not", b)))
        if node.op_type == "Xor":
            both = tape.op("And", both, tape.op("Not", tape.op("And", a, b)))
        return [both]
