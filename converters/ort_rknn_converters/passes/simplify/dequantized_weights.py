"""Weights stored in few bits -> the numbers they stand for, where no integer arithmetic of the NPU waits for them.

Computed here, for 4-bit numbers do not pass through numpy arrays unchanged, and onnxruntime has not all these types.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, operands
from ort_rknn_converters.passes.base import Context, Pass, Tape, kept_for_cpu

__all__ = ["DequantizedWeights"]

_DOMAINS = frozenset({"", "com.microsoft"})
_FEW_OR_MANY = frozenset({ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT16, ir.DataType.UINT16})
"""Types in which the NPU computes nothing, whatever reads them."""

_LARGEST = 256 << 20
"""Bytes of one weight as float32: larger ones stay as they are. A guess: one weight of a model that an NPU can hold."""


class DequantizedWeights(Pass):
    """Folds the dequantization of constant weights; the numbers stay.

    int8 weights of the standard's own op are left to constant folding, but for those in blocks.

    Args:
        every: Fold them as well.
    """

    name = "dequantized-weights"

    def __init__(self, *, every: bool = False) -> None:
        self._every = every

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """DequantizeLinear of constants in the main graph."""
        done = 0
        for node in list(model.graph):
            if node.op_type != "DequantizeLinear" or node.domain not in _DOMAINS or kept_for_cpu(node, ctx):
                continue
            x = node.inputs[0]
            folds = self._every or bool(node.domain) or bool(attribute(node, "block_size", 0))
            if x is None or x.dtype is None or (x.dtype not in _FEW_OR_MANY and not folds):
                continue
            array = _numbers(node)
            if array is not None and node.outputs[0].dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, None):
                tape = Tape(model, ctx, ctx.opset, node)
                tape.commit([tape.const(array, node.outputs[0].dtype or ir.DataType.FLOAT)])
                done += 1
        return (f"{onnx_graph.many(done, 'weight')} of few bits written as the numbers they stand for",) if done else ()


def _numbers(node: ir.Node) -> np.ndarray[Any, Any] | None:
    given = operands(node, 3)
    stored, scales, zeros = (onnx_graph.constant(value) for value in given)
    if stored is None or scales is None or (given[2] is not None and zeros is None):
        return None
    if 4 * math.prod(stored.shape.numpy()) > _LARGEST:
        return None
    x = stored.numpy().astype(np.float32)
    axis, block = int(attribute(node, "axis", 1)), int(attribute(node, "block_size", 0))
    scale = _spread(scales.numpy().astype(np.float32), x.shape, axis, block)
    zero = None if zeros is None else _spread(zeros.numpy().astype(np.float32), x.shape, axis, block)
    if scale is None or (zeros is not None and zero is None):
        return None
    result: np.ndarray[Any, Any] = (x if zero is None else x - zero) * scale
    return result


def _spread(
    parameter: np.ndarray[Any, Any], shape: tuple[int, ...], axis: int, block: int
) -> np.ndarray[Any, Any] | None:
    """A scale or zero point for each element, or in a form that broadcasts to that; ``None`` where it does not fit."""
    if parameter.size == 1:
        return parameter.reshape(())
    if not -len(shape) <= axis < len(shape):
        return None
    axis %= len(shape)
    if parameter.ndim == 1 and not block:
        return parameter.reshape([-1 if place == axis else 1 for place in range(len(shape))])
    if parameter.ndim != len(shape) or not block:
        return None
    whole = np.repeat(parameter, block, axis=axis)[(slice(None),) * axis + (slice(shape[axis]),)]
    return whole if whole.shape == shape else None
