"""MaxPool of volumes -> MaxPool of their pictures, then along their depth: the compiler aborts on the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, is_used
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["MaxPool3d"]


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
