"""Conv of long rows by its steps -> the rows cut into pieces of one step, which are channels of a shorter Conv.

Spectra and wave networks begin so: 400 samples every 160. A kernel of more than 16 does not fit the NPU's registers
where the row is longer than 8,192 (seen for rk3588: 9,000 by 400, 16,000 by 32; not 8,192 by 400 or 16,000 by 16).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, operand
from ort_rknn_converters.op_support.families.conv import overflows
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["FramedConv"]

_OLDEST = 11
"""From which opset on the sizes of a Pad are an input."""


class FramedConv(Rewrite):
    """Gives the same products; a kernel that is no multiple of the step ends in zeros."""

    name = "framed-conv"
    op_types = frozenset({"Conv"})
    says = "Conv of pieces of one step"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Left alone: shorter rows, steps of one, groups, dilations, weights computed at run time."""
        x, shape = node.inputs[0], onnx_graph.static_shape(node.inputs[0])
        weights, made = onnx_graph.constant(operand(node, 1)), onnx_graph.static_shape(node.outputs[0])
        if x is None or x.dtype not in FLOATS or shape is None or made is None or weights is None:
            return None
        step = int((attribute(node, "strides", None) or [1])[0])
        plain = attribute(node, "group", 1) == 1 and list(attribute(node, "dilations", None) or [1]) == [1]
        if not overflows(node) or step < 2 or not plain or tape.opset < _OLDEST:
            return None
        if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return None
        batch, channels, length = shape
        kernel = np.asarray(weights.numpy())
        pieces = -(-kernel.shape[2] // step)
        rows = made[2] - 1 + pieces
        first = int((attribute(node, "pads", None) or [0, 0])[0])
        x = _of_length(x, first, length, rows * step, tape)
        x = tape.op("Transpose", tape.reshape(x, (batch, channels, rows, step)), perm=[0, 1, 3, 2])
        x = tape.reshape(x, (batch, channels * step, rows))
        filled = np.zeros((kernel.shape[0], channels, pieces * step), kernel.dtype)
        filled[:, :, : kernel.shape[2]] = kernel
        cut = filled.reshape(-1, channels, pieces, step).transpose(0, 1, 3, 2).reshape(-1, channels * step, pieces)
        return [tape.op("Conv", x, tape.const(cut, weights.dtype), operand(node, 2), kernel_shape=[pieces])]


def _of_length(x: ir.Value, first: int, length: int, wanted: int, tape: Tape) -> Any:
    """The rows with zeros before them, and zeros behind or without their end."""
    behind = max(0, wanted - first - length)
    if first or behind:
        x = tape.op("Pad", x, tape.const(np.array([0, 0, first, 0, 0, behind], np.int64)), tape.like(x, 0.0))
    return x if first + length + behind == wanted else tape.slice(x, 0, wanted, axis=2)
