"""Group, RMS and MeanVarianceNormalization in the forms exporters write and the compiler fuses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, is_used, operand
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape
from ort_rknn_converters.passes.idioms import LAYER_NORM_OPSET, cast, layer_norm, rms_norm

__all__ = ["Norms"]


_CHANNELS, _LARGE_CHANNEL = 8, 1 << 16
_PAD_BY_INPUT = 11


class Norms(Rewrite):
    """Group: one InstanceNormalization over groups as channels, then scale and bias. RMS: x / sqrt(mean(x*x) + eps).

    Instance: the op stays, but for a few large channels, to which channels of zeros are added: fewer than 8 of more
    than 65,536 numbers do not fit the NPU's registers (seen for rk3588: 3 and 4 of 512x512, not 8 or 16).

    Layer: the op stays, but for a scale or bias that is computed at run time (applied after it), several axes (made
    one, for the toolkit refuses them), and in models of opsets that have none (onnxruntime's optimizer writes it there
    all the same): the parts. Mean-variance: the deviation from the mean, over its root mean square. The same within a
    few roundings. Half precision is computed in the type ``stash_type`` names, as the ops demand.
    """

    name = "norms"
    op_types = frozenset(
        {
            "GroupNormalization",
            "InstanceNormalization",
            "LayerNormalization",
            "MeanVarianceNormalization",
            "RMSNormalization",
            "SimplifiedLayerNormalization",
        }
    )
    says = "its parts"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Needs a known shape (but for Group: a known rank)."""
        x = node.inputs[0]
        if x is None or x.dtype not in FLOATS or x.shape is None or not len(x.shape):
            return None
        if any(map(is_used, node.outputs[1:])):
            return None
        if node.op_type == "MeanVarianceNormalization":
            return [_mean_variance(node, x, tape)]
        if node.op_type == "InstanceNormalization":
            return _more_channels(node, x, tape)
        stash = ir.DataType(attribute(node, "stash_type", 1))
        if stash != x.dtype and x.dtype != ir.DataType.FLOAT16:
            # A double computed in float would be less exact than this; leave it to the CPU.
            return None
        if node.op_type == "GroupNormalization":
            result = _group(node, x, stash, tape)
        elif node.op_type == "LayerNormalization":
            result = _layer(node, x, stash, tape)
        else:
            result = _rms(node, x, stash, tape)
        return None if result is None else [result, *[None] * (len(node.outputs) - 1)]


def _more_channels(node: ir.Node, x: ir.Value, tape: Tape) -> list[Any] | None:
    shape = onnx_graph.static_shape(x)
    given = [onnx_graph.constant(value) for value in node.inputs[1:3]]
    if shape is None or len(shape) < 3 or tape.opset < _PAD_BY_INPUT or any(tensor is None for tensor in given):
        return None
    channels = shape[1]
    if channels >= _CHANNELS or math.prod(shape[2:]) <= _LARGE_CHANNEL or 0 in shape:
        return None
    more = _CHANNELS - channels
    pads = np.zeros((2, len(shape)), np.int64)
    pads[1, 1] = more
    wide = tape.op("Pad", x, tape.const(pads.reshape(-1)), tape.like(x, 0.0))
    scale, bias = (tape.const(np.pad(t.numpy(), (0, more)), t.dtype) for t in given if t is not None)
    normal = tape.op("InstanceNormalization", wide, scale, bias, epsilon=attribute(node, "epsilon", 1e-5))
    return [tape.slice(normal, 0, channels, axis=1)]


def _group(node: ir.Node, x: ir.Value, stash: ir.DataType, tape: Tape) -> Any:
    shape, groups = onnx_graph.static_shape(x), int(attribute(node, "num_groups", 0))
    if shape is None or len(shape) < 3 or groups < 1 or shape[1] % groups or 0 in shape:
        return None
    scale, bias = node.inputs[1:3]
    assert scale is not None
    assert bias is not None
    channels = shape[1]
    wide = cast(x, stash, tape)
    flat = tape.reshape(wide, (shape[0], groups, math.prod(shape[2:]) * channels // groups))
    ones, zeros = (tape.const(np.full(groups, number), stash) for number in (1, 0))
    normal = tape.op("InstanceNormalization", flat, ones, zeros, epsilon=attribute(node, "epsilon", 1e-5))
    normal = cast(tape.reshape(normal, shape), x.dtype, tape)
    along = (channels,) + (1,) * (len(shape) - 2)
    if tape.opset < 21 and groups != channels:
        # Version 18 has one scale and bias a group.
        scale, bias = (_repeat(value, groups, channels, tape) for value in (scale, bias))
    scale, bias = (tape.reshape(value, along) for value in (scale, bias))
    return tape.op("Add", tape.op("Mul", normal, scale), bias)


def _repeat(value: ir.Value, groups: int, channels: int, tape: Tape) -> Any:
    shape = tape.const(np.array((groups, channels // groups), np.int64))
    return tape.op("Expand", tape.reshape(value, (groups, 1)), shape)


def _rms(node: ir.Node, x: ir.Value, stash: ir.DataType, tape: Tape) -> Any:
    axis, epsilon = int(attribute(node, "axis", -1)), attribute(node, "epsilon", 1e-5)
    normal = rms_norm(cast(x, stash, tape), axis, epsilon, tape)
    return tape.op("Mul", cast(normal, x.dtype, tape), node.inputs[1])


def _layer(node: ir.Node, x: ir.Value, stash: ir.DataType, tape: Tape) -> Any:
    scale, bias = operand(node, 1), operand(node, 2)
    axis, epsilon = int(attribute(node, "axis", -1)), attribute(node, "epsilon", 1e-5)
    if tape.opset < LAYER_NORM_OPSET:
        # Only onnxruntime knows the op in such models.
        return cast(layer_norm(cast(x, stash, tape), scale, bias, axis, epsilon, tape), x.dtype, tape)
    moving = [value is not None and onnx_graph.constant(value) is None for value in (scale, bias)]
    shape = onnx_graph.static_shape(x)
    if shape is None or 0 in shape:
        return None
    along = shape[axis % len(shape) :]
    if sum(size > 1 for size in along) > 1:
        return _one_axis(node, x, stash, along, tape)
    if not any(moving):
        return None
    # The compiler wants constants there.
    fixed = tape.const(np.ones(along), x.dtype) if moving[0] else scale
    y = tape.op("LayerNormalization", x, fixed, axis=axis, epsilon=epsilon, stash_type=int(stash))
    y = tape.op("Mul", y, scale) if moving[0] else y
    return y if bias is None else tape.op("Add", y, bias)


def _one_axis(node: ir.Node, x: ir.Value, stash: ir.DataType, along: tuple[int, ...], tape: Tape) -> Any:
    """Over several axes: over one as long as all of them, which is all the compiler has. Scale and bias come after."""
    shape = onnx_graph.static_shape(x)
    assert shape is not None
    scale, bias = operand(node, 1), operand(node, 2)
    rows, wide = math.prod(shape[: len(shape) - len(along)]), math.prod(along)
    ones = tape.const(np.ones(wide), x.dtype)
    epsilon = attribute(node, "epsilon", 1e-5)
    flat = tape.reshape(x, (rows, wide))
    y = tape.op("LayerNormalization", flat, ones, axis=-1, epsilon=epsilon, stash_type=int(stash))
    y = tape.reshape(y, shape)
    y = y if scale is None else tape.op("Mul", y, scale)
    return y if bias is None else tape.op("Add", y, bias)


def _mean_variance(node: ir.Node, x: ir.Value, tape: Tape) -> Any:
    axes = [int(axis) for axis in attribute(node, "axes", (0, 2, 3))]
    off = tape.op("Sub", x, tape.reduce("ReduceMean", x, axes, keepdims=True))
    variance = tape.reduce("ReduceMean", tape.op("Mul", off, off), axes, keepdims=True)
    return tape.op("Div", off, tape.op("Add", tape.op("Sqrt", variance), tape.like(x, 1e-9)))
