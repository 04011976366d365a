"""Reshapes that do not fit an NPU's registers -> smaller ones, or none.

The box decoder of YOLOv8 and YOLO11 joins the predictions of three sizes to rows of 8,400 and splits their channels in
two dimensions. Rows of more than 8,191 do not fit the registers of an NPU there, the three parts do.

Attention with relative positions (SAM, ViTDet, Hiera) adds a number for the row and one for the column of each key, for
which the scores become pictures and rows again.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.op_support.families.shape import WIDEST
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["LongRows", "RelativePositions"]

_MOST_ROWS = 65_535
"""Rows of the pictures that are rows again. Seen for rk3588: 98,304 rows of 32 do not fit, 24,576 of 8 do."""


class LongRows(Rewrite):
    """Exact: the rows stay as they are, and so do the places where they are joined."""

    name = "long-rows"
    op_types = frozenset({"Reshape"})
    says = "Reshape of the parts its rows are joined from"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Left alone where the joined rows are wanted elsewhere, too, or a part is too long itself."""
        whole, shape = node.inputs[0], onnx_graph.static_shape(node.outputs[0])
        joined = whole.producer() if whole is not None else None
        before = onnx_graph.static_shape(whole)
        if whole is None or joined is None or joined.op_type != "Concat" or joined.domain or not before or not shape:
            return None
        if whole.dtype not in FLOATS or len(whole.uses()) != 1 or whole.is_graph_output():
            return None
        last = len(before) - 1
        if int(attribute(joined, "axis", 0)) % len(before) != last or shape[-1] != before[-1] or before[-1] <= WIDEST:
            return None
        parts = [onnx_graph.static_shape(value) for value in joined.inputs]
        if any(part is None or not 0 < part[-1] <= WIDEST for part in parts):
            return None
        reshaped = [
            tape.reshape(value, (*shape[:-1], part[-1]))
            for value, part in zip(joined.inputs, parts, strict=True)
            if value is not None and part is not None
        ]
        return [tape.op("Concat", *reshaped, axis=len(shape) - 1)]


class RelativePositions(Rewrite):
    """Exact: numbers are repeated by a product with zeros and ones, and added in the same order."""

    name = "relative-positions"
    op_types = frozenset({"Reshape"})
    says = "rows and columns of numbers repeated and added to the scores as they are"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Left alone: what is small, wanted in between, or no sum of pictures with one row or one column of numbers."""
        pictures, rows = onnx_graph.static_shape(node.inputs[0]), onnx_graph.static_shape(node.outputs[0])
        if not pictures or not rows or len(pictures) < 3 or prod(pictures[:-1]) <= _MOST_ROWS:
            return None
        high, wide = pictures[-2:]
        if rows[-1] != high * wide or 1 in (high, wide):
            return None
        added: list[ir.Value] = []
        value = node.inputs[0]
        while True:
            maker = value.producer() if value is not None else None
            if value is None or maker is None or maker.domain or len(value.uses()) != 1 or value.is_graph_output():
                return None
            if maker.op_type == "Reshape":
                break
            narrow = [one for one in maker.inputs if one is not None and _is_strip(one, pictures)]
            if maker.op_type != "Add" or value.dtype not in FLOATS or len(narrow) != 1:
                return None
            added.append(narrow[0])
            value = next((one for one in maker.inputs if one is not narrow[0]), None)
        scores = maker.inputs[0]
        if not added or scores is None or onnx_graph.static_shape(scores) != rows:
            return None
        for strip in reversed(added):
            shape = onnx_graph.static_shape(strip) or ()
            count = max(shape[-2:])
            place = np.arange(high * wide) // wide if shape[-1] == 1 else np.arange(high * wide) % wide
            repeat = tape.const(np.arange(count)[:, None] == place, scores.dtype)
            scores = tape.op("Add", scores, tape.op("MatMul", tape.reshape(strip, (*rows[:-1], count)), repeat))
        return [scores]


def _is_strip(value: ir.Value, pictures: tuple[int, ...]) -> bool:
    """Whether a value is one column or one row of numbers for each picture."""
    shape = onnx_graph.static_shape(value)
    if shape is None or len(shape) != len(pictures) or shape[:-2] != pictures[:-2]:
        return False
    return shape[-2:] in ((pictures[-2], 1), (1, pictures[-1]))
