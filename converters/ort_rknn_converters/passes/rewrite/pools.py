"""Pooling that the compiler aborts at: volumes become pictures, dilations become shifted pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import pairwise
from math import prod
from typing import Any

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, is_used
from ort_rknn_converters.passes.base import FLOATS, Context, Rewrite, Tape
from ort_rknn_converters.targets import find_target

__all__ = ["DilatedPools", "MaxPool3d"]

_MOST_TAPS = 64
"""Shifted pictures of one node at most: each is a layer. A guess."""


class MaxPool3d(Rewrite):
    """Exact: the largest of the largest is the largest."""

    name = "max-pool-3d"
    op_types = frozenset({"MaxPool"})
    says = "MaxPool of pictures and then along the depth"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Left alone where the positions are wanted, too, or the padding is not said in numbers."""
        x, result = node.inputs[0], onnx_graph.static_shape(node.outputs[0])
        shape = onnx_graph.static_shape(x)
        if x is None or x.dtype not in FLOATS or shape is None or result is None or len(shape) != 5 or 0 in shape:
            return None
        if any(map(is_used, node.outputs[1:])) or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return None
        batch, channels, depth, height, width = shape
        flat = tape.reshape(x, (batch, channels * depth, height, width))
        pooled = _pool(node, flat, (1, 2), tape)
        high, wide = result[3:]
        if _does_something(node):
            upright = tape.reshape(pooled, (batch, channels, depth, high * wide))
            pooled = _pool(node, upright, (0, None), tape)
        return [tape.reshape(pooled, result), *(None for _ in node.outputs[1:])]


def _numbers(node: ir.Node, name: str, default: int) -> list[int]:
    return list(attribute(node, name) or [default] * (6 if name == "pads" else 3))


def _does_something(node: ir.Node) -> bool:
    """Whether the depth is pooled at all."""
    pads = _numbers(node, "pads", 0)
    return (_numbers(node, "kernel_shape", 1)[0], _numbers(node, "strides", 1)[0], pads[0], pads[3]) != (1, 1, 0, 0)


def _pool(node: ir.Node, x: ir.Value, axes: tuple[int | None, int | None], tape: Tape) -> Any:
    """Pool the two dimensions of an image by what the node says of these of its own; ``None`` leaves one as it is."""
    pads = _numbers(node, "pads", 0)
    said: dict[str, Any] = {
        name: [1 if axis is None else _numbers(node, name, 1)[axis] for axis in axes]
        for name in ("kernel_shape", "strides", "dilations")
    }
    said["pads"] = [0 if axis is None else pads[axis + 3 * end] for end in (0, 1) for axis in axes]
    if attribute(node, "ceil_mode", 0):
        said["ceil_mode"] = 1
    if tape.opset < 10:
        said.pop("dilations")
    return tape.op("MaxPool", x, **said)


class DilatedPools(Rewrite):
    """Exact: one direction after the other, and what would be read from the padding is read twice from the window."""

    name = "dilated-pools"
    op_types = frozenset({"AveragePool", "MaxPool"})
    says = "shifted pictures, of which the largest or the mean is taken"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Left alone on SoCs that pool with dilations."""
        return () if find_target(ctx.options.target).dilated_pools else super().apply(model, ctx)

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Left alone: positions, padding that is not said in numbers or that a mean counts, large kernels."""
        x = node.inputs[0]
        shape, result = onnx_graph.static_shape(x), onnx_graph.static_shape(node.outputs[0])
        if x is None or x.dtype not in FLOATS or shape is None or result is None or len(shape) not in (3, 4):
            return None
        sizes = len(shape) - 2
        kernel = list(attribute(node, "kernel_shape", ()))
        dilations = list(attribute(node, "dilations", None) or [1] * sizes)
        if set(dilations) == {1} or sum(kernel) > _MOST_TAPS or any(map(is_used, node.outputs[1:])):
            return None
        if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return None
        strides = list(attribute(node, "strides", None) or [1] * sizes)
        pads = list(attribute(node, "pads", None) or [0] * sizes)
        mean = node.op_type == "AveragePool"
        axes = []
        for at in range(sizes):
            windows = [
                [out * strides[at] - pads[at] + tap * dilations[at] for tap in range(kernel[at])]
                for out in range(result[2 + at])
            ]
            inside = [[one for one in window if 0 <= one < shape[2 + at]] for window in windows]
            if not all(inside) or (mean and inside != windows):
                return None
            pairs = zip(windows, inside, strict=True)
            axes.append([[one if one in real else real[-1] for one in window] for window, real in pairs])
        for at, windows in enumerate(axes):
            pictures = [_picture(x, list(rows), 2 + at, tape) for rows in zip(*windows, strict=True)]
            x = reduce(lambda one, other: tape.op("Add" if mean else "Max", one, other), pictures)
        if mean:
            x = tape.op("Mul", x, tape.like(x, 1 / prod(kernel)))
        return [x, *(None for _ in node.outputs[1:])]


def _picture(x: ir.Value, rows: list[int], axis: int, tape: Tape) -> Any:
    """The rows of an axis in this order, as few slices as can be."""
    shape = onnx_graph.static_shape(x)
    if shape is not None and rows == list(range(shape[axis])):
        return x
    parts = [
        tape.slice(x, run[0], run[-1] + 1, axis=axis, step=run[1] - run[0] if len(run) > 1 else 1)
        for run in _runs(rows)
    ]
    return parts[0] if len(parts) == 1 else tape.op("Concat", *parts, axis=axis)


def _runs(rows: list[int]) -> Iterator[list[int]]:
    """Cuts whole numbers into parts that grow by the same step."""
    run = rows[:1]
    for before, row in pairwise(rows):
        if row <= before or (len(run) > 1 and row - before != run[1] - run[0]):
            yield run
            run = []
        run.append(row)
    yield run
