"""Ceil -> -Floor(-x): the compiler has no lowering of Ceil."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ort_rknn_converters.passes.base import Rewrite, Tape

__all__ = ["Ceil"]


class Ceil(Rewrite):
    """Exact for every float, signed zeros included."""

    name = "ceil"
    op_types = frozenset({"Ceil"})
    says = "-Floor(-x)"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Ceil takes floats only."""
        return [tape.op("Neg", tape.op("Floor", tape.op("Neg", node.inputs[0])))]
