"""onnxruntime's MatMulNBits, whose weights are packed into 4 or 8 bits -> MatMul with the weights they stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, operands
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["PackedWeights"]

_LARGEST = 64 << 20
"""Bytes of one node's unpacked float32 weights: larger ones stay packed, on the CPU. A guess: those of small models."""

_ROUNDED = 4
"""``accuracy_level`` from which on onnxruntime rounds what is multiplied to int8: its answer is another then."""


class PackedWeights(Rewrite):
    """Unpacks weights of 2 to 8 bits; the NPU keeps weights in fp16, four times as large as in 4 bits.

    Left to the CPU: weights that are no constants or reordered (``g_idx``), zero points of floats, other widths.
    """

    name = "packed-weights"
    domain = "com.microsoft"
    op_types = frozenset({"MatMulNBits"})
    says = "MatMul with unpacked weights"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Weights are [N, blocks, bytes], the first number in the low bits."""
        x, *packed, order, bias = operands(node, 6)
        if x is None or x.dtype not in FLOATS or order is not None:
            return None
        if int(attribute(node, "accuracy_level", 0)) >= _ROUNDED:
            return None
        weights = _unpacked(node, packed)
        if weights is None:
            return None
        y = tape.op("MatMul", x, tape.const(weights.T, x.dtype))
        return [y if bias is None else tape.op("Add", y, bias)]


def _unpacked(node: ir.Node, packed: Sequence[ir.Value | None]) -> np.ndarray | None:
    """The weights as float32 [N, K], or ``None``."""
    rows, columns, bits, block = (int(attribute(node, name, 0)) for name in ("N", "K", "bits", "block_size"))
    bits = bits or 4
    numbers, scales, zeros = (onnx_graph.constant(value) for value in packed)
    if bits not in (4, 8) or not block or numbers is None or scales is None or 4 * rows * columns > _LARGEST:
        return None
    if (packed[2] is not None and zeros is None) or (zeros is not None and zeros.dtype != ir.DataType.UINT8):
        return None
    blocks = math.ceil(columns / block)
    values = _numbers(numbers.numpy(), bits, rows).reshape(rows, blocks, block).astype(np.float32)
    zero = 1 << (bits - 1) if zeros is None else _numbers(zeros.numpy(), bits, rows)[:, :blocks, None]
    scale = scales.numpy().astype(np.float32).reshape(rows, blocks, 1)
    result: np.ndarray = ((values - zero) * scale).reshape(rows, -1)[:, :columns]
    return result


def _numbers(packed: np.ndarray, bits: int, rows: int) -> np.ndarray:
    """The whole numbers in the bytes of each row."""
    packed = packed.reshape(rows, -1)
    return packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(rows, -1)
