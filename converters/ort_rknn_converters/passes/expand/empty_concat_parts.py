"""Concat without its parts of length zero: the cache of a text model before its first token, which no NPU takes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.passes.base import Rewrite, Tape

__all__ = ["EmptyParts"]


class EmptyParts(Rewrite):
    """Drops the empty parts of a Concat; a single part left is the result itself."""

    name = "empty-parts"
    op_types = frozenset({"Concat"})
    says = "Concat without empty parts"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Rewrites a Concat; where everything is empty, it stays."""
        parts = [
            value for value in node.inputs if value is not None and 0 not in (onnx_graph.static_shape(value) or ())
        ]
        if not parts or len(parts) == len(node.inputs):
            return None
        return [parts[0] if len(parts) == 1 else tape.op("Concat", *parts, axis=node.attributes["axis"].as_int())]
