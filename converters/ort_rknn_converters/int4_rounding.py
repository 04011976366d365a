"""Weights as the compiled file stores them in four bits (precision w4a16): seven steps either side of zero.

Found by reading the weights off the answers of the toolkit's simulator, one input at a time: a scale is the largest
magnitude over 7, of an output channel, of the whole weight, or of each group of input channels in each output channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

__all__ = ["in_four_bits"]

_STEPS = 7


def in_four_bits(weights: Array, axes: tuple[int, int], group: int, *, one_scale: bool = False) -> Array:
    """Weights rounded to 15 steps.

    Args:
        weights: Of any rank.
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
    scales = np.where(sizes == 0, np.float32(1), sizes / np.float32(_STEPS))
    rounded: Array = (np.rint(groups / scales) * scales).reshape(padded.shape)[:, :inputs].astype(weights.dtype)
    return np.moveaxis(rounded, (0, 1), axes)
