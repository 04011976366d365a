"""Ops that onnxruntime's own optimizer writes into models -> the standard's, which the compiler knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, is_used, operand
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape
from ort_rknn_converters.passes.idioms import LAYER_NORM_OPSET, gelu, layer_norm, rms_norm, swish

__all__ = ["Contrib", "EarlyNorms"]

Outputs = Sequence[Any] | None


def _plus(x: Any, more: ir.Value | None, tape: Tape) -> Any:
    return x if more is None else tape.op("Add", x, more)


def _gelu(node: ir.Node, x: ir.Value, tape: Tape) -> Outputs:
    return [gelu(_plus(x, operand(node, 1), tape), tape, tanh=node.op_type == "FastGelu")]


def _quick_gelu(node: ir.Node, x: ir.Value, tape: Tape) -> Outputs:
    return [swish(x, attribute(node, "alpha", 1.702), tape)]


def _fused_matmul(node: ir.Node, a: ir.Value, tape: Tape) -> Outputs:
    b = operand(node, 1)
    if b is None or attribute(node, "transBatchA", 0) or attribute(node, "transBatchB", 0):
        return None
    sides: list[Any] = []
    for value, flag in ((a, "transA"), (b, "transB")):
        if value.shape is None or len(value.shape) < 2:
            return None
        rank = len(value.shape)
        turned = [*range(rank - 2), rank - 1, rank - 2]
        sides.append(tape.op("Transpose", value, perm=turned) if attribute(node, flag, 0) else value)
    product = tape.op("MatMul", *sides)
    alpha = attribute(node, "alpha", 1.0)
    return [product if alpha == 1 else tape.op("Mul", product, tape.like(product, alpha))]


def _skip_norm(node: ir.Node, x: ir.Value, tape: Tape) -> Outputs:
    simplified = node.op_type.startswith("SkipSimplified")
    if any(map(is_used, node.outputs[1:3])):
        return None
    bias = operand(node, 3 if simplified else 4)
    total = _plus(_plus(x, operand(node, 1), tape), bias, tape)
    epsilon = attribute(node, "epsilon", 1e-5 if simplified else 1e-12)
    if simplified:
        y = tape.op("Mul", rms_norm(total, -1, epsilon, tape), node.inputs[2])
    else:
        y = layer_norm(total, node.inputs[2], operand(node, 3), -1, epsilon, tape)
    return [y, None, None, total][: len(node.outputs)]


def _embed_norm(node: ir.Node, ids: ir.Value, tape: Tape) -> Outputs:
    shape = onnx_graph.static_shape(ids)
    word, place = operand(node, 2), operand(node, 3)
    if shape is None or len(shape) != 2 or word is None or place is None:
        return None
    lengths = _lengths(operand(node, 7), shape[0], tape) if any(map(is_used, node.outputs[1:2])) else None
    at = operand(node, 8)
    places = tape.slice(place, 0, shape[1], axis=0) if at is None else tape.op("Gather", place, at, axis=0)
    total = tape.op("Add", tape.op("Gather", word, ids, axis=0), places)
    kinds, kind = operand(node, 1), operand(node, 4)
    if kinds is not None and kind is not None:
        total = tape.op("Add", total, tape.op("Gather", kind, kinds, axis=0))
    y = layer_norm(total, node.inputs[5], operand(node, 6), -1, attribute(node, "epsilon", 1e-12), tape)
    return [y, lengths, total][: len(node.outputs)]


def _lengths(mask: ir.Value | None, batch: int, tape: Tape) -> Any:
    """Counts the ones in each row of the mask; zeros without a mask."""
    if mask is None:
        return tape.const(np.zeros(batch), ir.DataType.INT32)
    ones = tape.op("Cast", tape.op("Equal", mask, tape.like(mask, 1)), to=int(ir.DataType.INT32))
    return tape.reduce("ReduceSum", ones, [1], keepdims=False)


def _fused_conv(node: ir.Node, x: ir.Value, tape: Tape) -> Outputs:
    extra = operand(node, 3)
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    y = tape.op("Conv", *node.inputs[:3], **{name: attribute(node, name) for name in names})
    y = _plus(y, extra, tape)
    activation, numbers = attribute(node, "activation", ""), attribute(node, "activation_params", ())
    if activation in ("Relu", "Tanh", "Sigmoid"):
        return [tape.op(activation, y)]
    if activation == "LeakyRelu" and len(numbers) == 1:
        return [tape.op("LeakyRelu", y, alpha=numbers[0])]
    if activation == "HardSigmoid" and len(numbers) == 2:
        return [tape.op("HardSigmoid", y, alpha=numbers[0], beta=numbers[1])]
    if activation == "Clip" and len(numbers) == 2 and tape.opset >= 11:
        return [tape.op("Clip", y, tape.like(y, numbers[0]), tape.like(y, numbers[1]))]
    return [y] if not activation else None


_DEFINITIONS: dict[str, Callable[[ir.Node, ir.Value, Tape], Outputs]] = {
    "BiasGelu": _gelu,
    "EmbedLayerNormalization": _embed_norm,
    "FastGelu": _gelu,
    "FusedConv": _fused_conv,
    "FusedMatMul": _fused_matmul,
    "Gelu": _gelu,
    "QuickGelu": _quick_gelu,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
}


class Contrib(Rewrite):
    """The definitions of the most frequent of them, to a few roundings; NaN and infinities as before.

    What has outputs that only training or other such ops use stays when these are used.
    """

    name = "contrib"
    domain = "com.microsoft"
    op_types = frozenset(_DEFINITIONS)
    says = "standard ops"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Floats only (but for the ids of an embedding)."""
        x = node.inputs[0]
        if x is None or (x.dtype not in FLOATS and node.op_type != "EmbedLayerNormalization"):
            return None
        return _DEFINITIONS[node.op_type](node, x, tape)


class EarlyNorms(Rewrite):
    """Normalizations that onnxruntime writes under the standard's name where the standard does not have them.

    Its optimizer does so below opset 17; ``SimplifiedLayerNormalization`` the standard has nowhere.
    """

    name = "early-norms"
    op_types = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})
    says = "ops of the standard"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Floats only, and the first output."""
        simplified = node.op_type.startswith("Simplified")
        x, scale, axis = node.inputs[0], operand(node, 1), int(attribute(node, "axis", -1))
        if x is None or x.dtype not in FLOATS or any(map(is_used, node.outputs[1:])):
            return None
        if (tape.opset >= LAYER_NORM_OPSET and not simplified) or (axis != -1 and x.shape is None):
            return None
        epsilon = attribute(node, "epsilon", 1e-5)
        if simplified:
            y = tape.op("Mul", rms_norm(x, axis, epsilon, tape), scale)
        else:
            y = layer_norm(x, scale, operand(node, 2), axis, epsilon, tape)
        return [y, *[None] * (len(node.outputs) - 1)]
