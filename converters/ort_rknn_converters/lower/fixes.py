"""Rewrites of what the toolkit stumbles over in a segment; each was seen to matter with rknn-toolkit2 2.5.0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, is_used, operand, operands
from ort_rknn_converters.passes.base import Context, Pass, Rewrite, Tape

__all__ = ["FIXES"]

_NEARLY_ZERO = 1e-8
"""Below half of the smallest number that fp16 has."""


class FillValue(Rewrite):
    """ConstantOfShape with its value said: without it, loading dies."""

    name = "fill-value"
    op_types = frozenset({"ConstantOfShape"})
    says = "ConstantOfShape with a value"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """The standard's default is float32 zero."""
        if "value" in node.attributes:
            return None
        return [tape.op("ConstantOfShape", node.inputs[0], value=ir.tensor(np.zeros(1, np.float32)))]


class SplitParts(Rewrite):
    """Split with the sizes of its parts: their number alone gives wrong parts when they are uneven."""

    name = "split-parts"
    op_types = frozenset({"Split"})
    says = "Split into parts of said sizes"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """All parts but the last have the same size."""
        x, count = node.inputs[0], int(attribute(node, "num_outputs", 0))
        shape = onnx_graph.static_shape(x)
        if x is None or shape is None or not count:
            return None
        axis = int(attribute(node, "axis", 0))
        part = -(-shape[axis] // count)
        sizes = [min(part, max(0, shape[axis] - part * index)) for index in range(count)]
        parts = tape.op("Split", x, tape.const(np.array(sizes, np.int64)), axis=axis, outputs=count)
        return [parts] if count == 1 else list(parts)


class PadAxes(Rewrite):
    """Pad of every axis: its axes are not read."""

    name = "pad-axes"
    op_types = frozenset({"Pad"})
    says = "Pad of every axis"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Axes that are not named get no padding."""
        x, pads, axes = node.inputs[0], onnx_graph.constant(operand(node, 1)), onnx_graph.constant(operand(node, 3))
        if x is None or x.shape is None or pads is None or axes is None:
            return None
        rank = len(x.shape)
        whole = np.zeros((2, rank), np.int64)
        whole[:, axes.numpy() % rank] = pads.numpy().reshape(2, -1)
        mode = attribute(node, "mode", "constant")
        return [tape.op("Pad", x, tape.const(whole.reshape(-1)), node.inputs[2], mode=mode)]


class PadBeforePool(Rewrite):
    """Pad with nearly zeros before a MaxPool: real ones are taken for the pool's own padding, which never wins.

    YOLOv3-tiny has that, and a window of negative values gives zero there.
    """

    name = "pad-before-pool"
    op_types = frozenset({"Pad"})
    says = "Pad with a value that is zero only in fp16"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Other values are left in their place by the toolkit; for other modes there is no such trick."""
        x, pads, fill = node.inputs[0], operand(node, 1), operand(node, 2)
        value = onnx_graph.constant(fill)
        known = attribute(node, "value", 0.0) if fill is None else None if value is None else value.numpy().item()
        pooled = any(user.op_type == "MaxPool" for user in node.outputs[0].consumers())
        if x is None or known != 0 or not pooled or attribute(node, "mode", "constant") != "constant":
            return None
        if pads is None:  # before opset 11
            return [tape.op("Pad", x, pads=attribute(node, "pads"), value=_NEARLY_ZERO)]
        return [tape.op("Pad", x, pads, tape.const(_NEARLY_ZERO), mode="constant")]


class LastState(Rewrite):
    """GRU whose last state alone is used -> the last step of all its states: the build dies of the other form."""

    name = "last-state"
    op_types = frozenset({"GRU"})
    says = "GRU with all its states"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Left alone where sequences have their own lengths or the batch comes first."""
        used = [is_used(value) for value in node.outputs]
        if used != [False, True] or operand(node, 4) is not None or attribute(node, "layout", 0):
            return None
        kept = {name: attr.value for name, attr in node.attributes.items()}
        states, _ = tape.op("GRU", *node.inputs, outputs=2, **kept)
        shape = onnx_graph.static_shape(states)
        if shape is None:
            return None
        steps, directions = shape[:2]
        direction = attribute(node, "direction", "forward")
        if direction == "bidirectional":
            ends = [(steps - 1, 0), (0, 1)]
        else:
            ends = [(0 if direction == "reverse" else steps - 1, 0)]
        last = [self._step(states, step, which, directions, tape) for step, which in ends]
        joined = last[0] if len(last) == 1 else tape.op("Concat", *last, axis=1)
        return [None, tape.reshape(joined, shape[1:])]

    @staticmethod
    def _step(states: ir.Value, step: int, which: int, directions: int, tape: Tape) -> Any:
        one = tape.slice(states, step, step + 1, axis=0)
        return one if directions == 1 else tape.slice(one, which, which + 1, axis=1)


class SaidDefaults(Pass):
    """LayerNormalization with its attributes said: without epsilon the build dies, without axis it is a CPU op."""

    name = "said-defaults"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """The standard's defaults."""
        changed = 0
        for node in model.graph:
            if node.op_type == "LayerNormalization" and not {"axis", "epsilon"} <= node.attributes.keys():
                node.attributes.setdefault("axis", ir.AttrInt64("axis", -1))
                node.attributes.setdefault("epsilon", ir.AttrFloat32("epsilon", 1e-5))
                changed += 1
        return (f"{changed} LayerNormalization with its defaults said",) if changed else ()


class AxisFromFront(Pass):
    """GatherElements with its axis counted from the front: with constant positions the build dies of the other form."""

    name = "axis-from-front"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Ranks are known in a segment."""
        changed = 0
        for node in model.graph:
            axis = node.attributes.get_int("axis", 0)
            shape = onnx_graph.static_shape(node.inputs[0]) if node.inputs else None
            if node.op_type == "GatherElements" and axis < 0 and shape is not None:
                node.attributes["axis"] = ir.AttrInt64("axis", axis + len(shape))
                changed += 1
        return (f"{changed} GatherElements with the axis counted from the front",) if changed else ()


class RowChoices(Rewrite):
    """Choices of one dimension between operands of one length: for rk3566 the build dies of one number for all."""

    name = "row-choices"
    op_types = frozenset({"Where"})
    says = "Where of operands of one length"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Left alone: several dimensions, and operands that are all as long as the result."""
        result = onnx_graph.static_shape(node.outputs[0])
        if result is None or len(result) != 1 or any(value is None for value in node.inputs):
            return None
        short = [value is not None and onnx_graph.static_shape(value) != result for value in node.inputs]
        if not any(short):
            return None
        size = tape.const(np.array(result, np.int64))
        pairs = zip(node.inputs, short, strict=True)
        return [tape.op("Where", *(tape.op("Expand", value, size) if is_short else value for value, is_short in pairs))]


class ZeroPoints(Rewrite):
    """DequantizeLinear and QuantizeLinear with their zero point said: without it the build ends in IndexError."""

    name = "zero-points"
    op_types = frozenset({"DequantizeLinear", "QuantizeLinear"})
    says = "itself with its zero point"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """The standard's default is zero, of uint8 where a result is rounded."""
        x, scale, zero = operands(node, 3)
        shape = onnx_graph.static_shape(scale)
        if x is None or x.dtype is None or shape is None or zero is not None:
            return None
        kept = {name: attr.value for name, attr in node.attributes.items()}
        dtype = x.dtype if node.op_type == "DequantizeLinear" else node.outputs[0].dtype or ir.DataType.UINT8
        return [tape.op(node.op_type, x, scale, tape.const(np.zeros(shape), dtype), **kept)]


class QuantizedRows(Rewrite):
    """Rounds rows that come in and go into a product as an image: its graph rules undo each other without end else."""

    name = "quantized-rows"
    op_types = frozenset({"DequantizeLinear"})
    says = "itself with the shape of an image"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Rank 2 or 3 and several rows; of one row, and of images, it has no trouble."""
        rounded = node.inputs[0].producer() if node.inputs[0] is not None else None
        source = rounded.inputs[0] if rounded is not None and rounded.op_type == "QuantizeLinear" else None
        shape = onnx_graph.static_shape(source)
        if rounded is None or source is None or not source.is_graph_input() or shape is None:
            return None
        multiplied = any(user.op_type in ("Gemm", "MatMul") for user in node.outputs[0].consumers())
        if len(shape) not in (2, 3) or math.prod(shape[:-1]) == 1 or not multiplied:
            return None
        grid = rounded.inputs[1:]
        image = tape.reshape(source, (*[1] * (4 - len(shape)), *shape))
        rows = tape.reshape(self._rounded(image, grid, tape), shape)
        return [self._rounded(rows, grid, tape)]

    @staticmethod
    def _rounded(x: ir.Value, grid: Sequence[ir.Value | None], tape: Tape) -> Any:
        return tape.op("DequantizeLinear", tape.op("QuantizeLinear", x, *grid), *grid)


FIXES: tuple[Pass, ...] = (
    FillValue(),
    SplitParts(),
    PadAxes(),
    PadBeforePool(),
    LastState(),
    SaidDefaults(),
    AxisFromFront(),
    RowChoices(),
    ZeroPoints(),
    QuantizedRows(),
)
