"""CastLike -> Cast: the type to cast to is known, and the compiler only knows ``Cast``."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.passes.base import Rewrite, Tape

__all__ = ["CastLike"]


class CastLike(Rewrite):
    """Exact for every type."""

    name = "cast-like"
    op_types = frozenset({"CastLike"})
    says = "Cast"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Left alone when the type is not known."""
        like = node.inputs[1]
        if like is None or like.dtype is None:
            return None
        kept = {name: attribute(node, name) for name in ("saturate", "round_mode") if name in node.attributes}
        return [tape.op("Cast", node.inputs[0], to=int(like.dtype), **kept)]
