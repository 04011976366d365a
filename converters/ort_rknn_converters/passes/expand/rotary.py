"""RotaryEmbedding -> Slice, Mul, Sub, Add, Concat, without the zero-length Split of its function body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, operand
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["Rotary"]


class Rotary(Rewrite):
    """The rotation written out; exact to a rounding (the compiler drops a Split that has an empty part)."""

    name = "rotary"
    op_types = frozenset({"RotaryEmbedding"})
    says = "its rotation"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Needs a known shape."""
        x = node.inputs[0]
        shape = onnx_graph.static_shape(x)
        if x is None or shape is None or x.dtype not in FLOATS or len(shape) not in (3, 4) or 0 in shape:
            return None
        heads = int(attribute(node, "num_heads", 0))
        if len(shape) == 3:
            if heads < 1 or shape[2] % heads:
                return None
            x = tape.reshape(x, (shape[0], shape[1], heads, shape[2] // heads))
        size = shape[3] if len(shape) == 4 else shape[2] // heads
        part = int(attribute(node, "rotary_embedding_dim", 0)) or size
        # Heads come before the sequence in rank 4, after it in rank 3.
        cos, sin = (_angles(node, value, len(shape) == 4, tape) for value in node.inputs[1:3])
        if cos is None or sin is None:
            return None

        turning = x if part == size else tape.slice(x, 0, part, axis=3)
        if attribute(node, "interleaved", 0):
            turned = _interleaved(turning, cos, sin, tape)
        else:
            one, two = tape.slice(turning, 0, part // 2, axis=3), tape.slice(turning, part // 2, part, axis=3)
            turned = tape.op("Concat", *_turn(one, two, cos, sin, tape), axis=3)
        if part != size:
            turned = tape.op("Concat", turned, tape.slice(x, part, size, axis=3), axis=3)
        return [tape.reshape(turned, shape) if len(shape) == 3 else turned]


def _angles(node: ir.Node, cache: ir.Value | None, heads_first: bool, tape: Tape) -> Any:
    """Cosines or sines as [batch, 1, sequence, part/2] (``heads_first``) or [batch, sequence, 1, part/2]."""
    if cache is None:
        return None
    positions = operand(node, 3)
    if positions is not None:
        cache = tape.op("Gather", cache, positions, axis=0)
    shape = onnx_graph.static_shape(cache)
    if shape is None or len(shape) != 3:
        return None
    batch, sequence, half = shape
    return tape.reshape(cache, (batch, 1, sequence, half) if heads_first else (batch, sequence, 1, half))


def _turn(one: Any, two: Any, cos: Any, sin: Any, tape: Tape) -> tuple[Any, Any]:
    real = tape.op("Sub", tape.op("Mul", cos, one), tape.op("Mul", sin, two))
    imaginary = tape.op("Add", tape.op("Mul", sin, one), tape.op("Mul", cos, two))
    return real, imaginary


def _interleaved(x: ir.Value, cos: Any, sin: Any, tape: Tape) -> Any:
    shape = onnx_graph.static_shape(x)
    assert shape is not None
    one, two = (tape.slice(x, first, shape[3], axis=3, step=2) for first in (0, 1))
    pairs = [tape.reshape(value, (*shape[:3], shape[3] // 2, 1)) for value in _turn(one, two, cos, sin, tape)]
    return tape.reshape(tape.op("Concat", *pairs, axis=4), shape)
