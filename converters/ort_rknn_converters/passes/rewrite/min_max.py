"""Min -> -Max(-a, -b), for the compiler has no lowering of Min; either with one number -> Clip, which the NPU does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["MinMax"]


class MinMax(Rewrite):
    """Exact, NaN and infinities included (which of 0 and -0 comes out may differ).

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
