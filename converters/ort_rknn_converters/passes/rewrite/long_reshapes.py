"""Reshape of long rows that were just put together -> Reshape of their parts, then put together.

The box decoder of YOLOv8 and YOLO11 joins the predictions of three sizes to rows of 8,400 and splits their channels in
two dimensions. Rows of more than 8,191 do not fit the registers of an NPU there, the three parts do.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.op_support.families.shape import WIDEST
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["LongRows"]


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
