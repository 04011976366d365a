"""Trilu of a static shape -> Where with a constant mask: the compiler has no lowering of Trilu."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, operand
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["Trilu"]

_TYPES = FLOATS | {ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL}
"""What onnxruntime's own ``Where`` takes (``And`` for booleans)."""

_LARGEST = 1 << 22
"""Elements of a mask worth storing (a guess: 2048 x 2048)."""


class Trilu(Rewrite):
    """Exact; NaN and infinities in the part cut off vanish, as they should."""

    name = "trilu"
    op_types = frozenset({"Trilu"})
    says = "Where with a constant mask"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Needs a known matrix size and a known diagonal."""
        x = node.inputs[0]
        shape = None if x is None else onnx_graph.dims(x)
        k = 0
        if (diagonal := operand(node, 1)) is not None:
            known = onnx_graph.constant(diagonal)
            if known is None:
                return None
            k = int(known.numpy().item())
        if x is None or x.dtype not in _TYPES or shape is None or len(shape) < 2:
            return None
        rows, columns = shape[-2:]
        if not isinstance(rows, int) or not isinstance(columns, int) or math.prod((rows, columns)) > _LARGEST:
            return None
        whole = np.ones((rows, columns), dtype=bool)
        # A diagonal beyond the matrix keeps all or nothing; numpy wants it within an int32.
        k = max(-rows - 1, min(columns + 1, k))
        mask = np.triu(whole, k) if attribute(node, "upper", 1) else np.tril(whole, k)
        if x.dtype == ir.DataType.BOOL:
            return [tape.op("And", x, tape.const(mask))]
        return [tape.op("Where", tape.const(mask), x, tape.like(x, 0))]
