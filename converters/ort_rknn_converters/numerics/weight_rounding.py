"""Weights as the compiled file stores them: in int8, in four bits (precision w4a16), or as float16.

Found by fitting the answers of the toolkit's simulator, one layer or one input at a time. Int8: 255 steps between the
extremes of each output channel. Four bits: seven steps either side of zero; a scale is the largest magnitude over 7, of
an output channel, of the whole weight, or of each group of input channels in each output channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["BY_LAYER", "as_stored", "in_eight_bits", "in_four_bits"]

BY_LAYER = "one scale a weight (quantized_method layer)"
"""Custom string of files whose int8 weights have one scale each: nothing else in a file tells, and it matters."""

_STEPS_OF_8, _LEAST = 255, -128
_STEPS_OF_4 = 7  # on either side


def as_stored(
    weights: Array,
    node: onnx.NodeProto,
    dtype: str,
    *,
    group: int = 0,
    one_scale: bool = False,
    with_identity: bool = False,
    by_layer: bool = False,
) -> Array:
    """The weights of a node with the values that they have in the compiled file.

    Args:
        weights: Floats; the node's second input.
        node: Whose they are.
        dtype: ``int8``, ``int4`` or ``float16``.
        group: Of int4: see :func:`in_four_bits`.
        one_scale: Of int4: see :func:`in_four_bits`.
        with_identity: Whether they were stored with the identity added, because the node's input is added to its
            output: then the compiler needs no Add.
        by_layer: Of int8: whether the whole weight shares one scale, instead of each output channel.

    Returns:
        An array of the same dtype and shape.
    """
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return weights.astype(np.float16).astype(weights.dtype)
    added = _identity(node, weights) if with_identity else np.zeros_like(weights)
    if dtype == "int8":
        stored = in_eight_bits(weights + added, () if by_layer else _channel_axes(node, weights.ndim))
    else:
        stored = in_four_bits(weights + added, _edges(node, weights.ndim), group, one_scale=one_scale)
    result: Array = (stored - added).astype(weights.dtype)
    return result


def in_eight_bits(weights: Array, channels: Sequence[int]) -> Array:
    """Weights rounded to 255 steps between the least (or 0) and the largest (or 0) of each channel.

    Args:
        weights: Floats of any rank.
        channels: The axes over which the steps differ.
    """
    others = tuple(axis for axis in range(weights.ndim) if axis not in channels)
    low = np.minimum(weights.min(axis=others, keepdims=True), 0).astype(np.float64)
    high = np.maximum(weights.max(axis=others, keepdims=True), 0).astype(np.float64)
    step = (high - low) / _STEPS_OF_8
    step = np.where(step == 0, 1, step)
    zero = np.rint(_LEAST - low / step)
    stored = np.clip(np.rint(weights / step) + zero, _LEAST, _LEAST + _STEPS_OF_8)
    rounded: Array = ((stored - zero) * step).astype(weights.dtype)
    return rounded


def in_four_bits(weights: Array, axes: tuple[int, int], group: int, *, one_scale: bool = False) -> Array:
    """Weights rounded to 15 steps.

    Args:
        weights: Floats of any rank.
        axes: The axis of the output channels and that of the input channels.
        group: Input channels that share a scale; the last group may have fewer. 0: all of them.
        one_scale: Whether all weights share one scale.
    """
    moved = np.moveaxis(weights, axes, (0, 1))
    outputs, inputs, *rest = moved.shape
    together = group or inputs
    padded = np.zeros((outputs, -(-inputs // together) * together, *rest), np.float32)
    padded[:, :inputs] = moved
    groups = padded.reshape(outputs, -1, together, *rest)
    inside = None if one_scale else tuple(range(2, groups.ndim))
    sizes = np.abs(groups).max(axis=inside, keepdims=True)
    scales = np.where(sizes == 0, np.float32(1), sizes / np.float32(_STEPS_OF_4))
    rounded: Array = (np.rint(groups / scales) * scales).reshape(padded.shape)[:, :inputs].astype(weights.dtype)
    return np.moveaxis(rounded, (0, 1), axes)


def _channel_axes(node: onnx.NodeProto, rank: int) -> Sequence[int]:
    """The axes of a weight over which its steps differ: the output channels."""
    flags = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "Conv" or (node.op_type == "Gemm" and flags.get("transB")):
        return (0,)
    if node.op_type == "ConvTranspose":
        return (1,) if flags.get("group", 1) == 1 else (0, 1)
    if node.op_type in ("Gemm", "MatMul"):
        return (rank - 1,)
    return ()


def _edges(node: onnx.NodeProto, rank: int) -> tuple[int, int]:
    """The axes of a weight for output and input channels."""
    output = next(iter(_channel_axes(node, rank)), rank - 1)
    return output, 1 - output if rank == 2 or output == 0 else rank - 2


def _identity(node: onnx.NodeProto, weights: Array) -> Array:
    """The weights that give the input itself; zeros where there are none."""
    added = np.zeros_like(weights)
    if node.op_type == "Conv" and weights.shape[0] == weights.shape[1]:
        centre = tuple(size // 2 for size in weights.shape[2:])
        for channel in range(len(weights)):
            added[(channel, channel, *centre)] = 1
    return added
