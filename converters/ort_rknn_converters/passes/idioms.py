"""Compositions that several rewrites write, in the forms the compiler fuses."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir

from ort_rknn_converters.passes.tape import Tape

__all__ = ["LAYER_NORM_OPSET", "cast", "gelu", "layer_norm", "rms_norm", "swish"]

LAYER_NORM_OPSET = 17
"""First opset of the standard with a LayerNormalization."""


def cast(x: ir.Value, dtype: ir.DataType | None, tape: Tape) -> Any:
    """``x`` in another type."""
    return x if x.dtype == dtype or dtype is None else tape.op("Cast", x, to=int(dtype))


def gelu(x: ir.Value, tape: Tape, *, tanh: bool = False) -> Any:
    """``x/2 * (1 + erf(x / sqrt 2))``, or its approximation by a tanh."""
    if tanh:
        cube = tape.op("Pow", x, tape.like(x, 3))
        inner = tape.op("Add", x, tape.op("Mul", cube, tape.like(x, 0.044715)))
        bent = tape.op("Tanh", tape.op("Mul", inner, tape.like(x, math.sqrt(2 / math.pi))))
    else:
        bent = tape.op("Erf", tape.op("Div", x, tape.like(x, math.sqrt(2))))
    return tape.op("Mul", tape.op("Mul", x, tape.op("Add", bent, tape.like(x, 1))), tape.like(x, 0.5))


def swish(x: ir.Value, alpha: float, tape: Tape) -> Any:
    """``x * sigmoid(alpha x)``."""
    scaled = x if alpha == 1 else tape.op("Mul", x, tape.like(x, alpha))
    return tape.op("Mul", x, tape.op("Sigmoid", scaled))


def rms_norm(x: ir.Value, axis: int, epsilon: float, tape: Tape) -> Any:
    """``x / sqrt(mean(x*x) + epsilon)`` over the axes from ``axis`` on."""
    mean = tape.reduce("ReduceMean", tape.op("Mul", x, x), _from(axis, x), keepdims=True)
    return tape.op("Div", x, tape.op("Sqrt", tape.op("Add", mean, tape.like(x, epsilon))))


def layer_norm(
    x: ir.Value, scale: ir.Value | None, bias: ir.Value | None, axis: int, epsilon: float, tape: Tape
) -> Any:
    """LayerNormalization: the op where the opset has it and its scale is there, else written out."""
    if tape.opset >= LAYER_NORM_OPSET and scale is not None:
        return tape.op("LayerNormalization", x, scale, bias, axis=axis, epsilon=epsilon)
    axes = _from(axis, x)
    off = tape.op("Sub", x, tape.reduce("ReduceMean", x, axes, keepdims=True))
    variance = tape.reduce("ReduceMean", tape.op("Pow", off, tape.like(x, 2)), axes, keepdims=True)
    normal = tape.op("Div", off, tape.op("Sqrt", tape.op("Add", variance, tape.like(x, epsilon))))
    if scale is not None:
        normal = tape.op("Mul", normal, scale)
    return normal if bias is None else tape.op("Add", normal, bias)


def _from(axis: int, x: ir.Value) -> list[int]:
    """All axes from one on; the rank of ``x`` is known, unless it is the last axis."""
    if axis == -1:
        return [-1]
    assert x.shape is not None
    rank = len(x.shape)
    return list(range(axis % rank, rank))
