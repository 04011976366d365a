"""GatherElements whose positions are the same for whole rows -> Gather of those rows.

Detectors pick their best candidates so (RT-DETR, DINO): positions of shape [1, 300], repeated 256 times by Tile or
Expand. The repeated whole numbers would stay on the CPU, and cut the network there.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.passes.base import Rewrite, Tape

__all__ = ["RowGathers"]

_REPEATS = frozenset({"Expand", "Tile"})


class RowGathers(Rewrite):
    """Takes the same numbers by rows."""

    name = "row-gathers"
    op_types = frozenset({"GatherElements"})
    says = "Gather of rows"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Left alone: several batches with positions of their own, and rows that are taken in part."""
        x, positions = node.inputs[0], node.inputs[1]
        maker = positions.producer() if positions is not None else None
        if x is None or maker is None or maker.op_type not in _REPEATS or maker.domain:
            return None
        single = maker.inputs[0]
        whole, taken, before = (onnx_graph.static_shape(value) for value in (x, positions, single))
        if single is None:
            return None
        if whole is None or taken is None or before is None or not whole or 0 in taken:
            return None
        axis = int(attribute(node, "axis", 0)) % len(whole)
        count = prod(before)
        padded = (1,) * (len(taken) - len(before)) + tuple(before)
        rows = all(size == (count if place == axis else 1) for place, size in enumerate(padded))
        full = all(taken[place] == size for place, size in enumerate(whole) if place != axis)
        if not rows or not full or taken[axis] != count:
            return None
        return [tape.op("Gather", x, tape.reshape(single, (count,)), axis=axis)]
