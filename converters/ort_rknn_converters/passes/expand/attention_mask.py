"""Builds what an ``Attention`` op adds to its scores: its mask, the causal rule and the padding, put together."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, operand
from ort_rknn_converters.op_support.fp16_range import FORBIDDEN, SEES_NOTHING
from ort_rknn_converters.passes.base import Tape
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Bias", "bias_of"]


@frozen
class Bias:
    """Values that are added to the scores.

    Attributes:
        added: 0 or what forbids (or the float mask's own numbers), broadcastable to [batch, heads, queries, keys];
            ``None`` when nothing is masked.
        some: Bool, [..., queries, 1]: whether the row may attend to any key at all; ``None`` when every row surely may.
    """

    added: ir.Value | None
    some: ir.Value | None


def bias_of(node: ir.Node, query: ir.Value, key: ir.Value, tape: Tape) -> Bias | None:
    """The bias of an ``Attention`` node, or ``None`` when it cannot be written down (an unknown mask shape).

    Args:
        node: The op, for its attributes, mask and padding.
        query: [batch, heads, queries, size].
        key: [batch, heads, keys, size], past keys included.
        tape: Where the nodes are written.
    """
    queries, keys = ((onnx_graph.static_shape(value) or ())[2] for value in (query, key))
    mask, past, filled = (operand(node, position) for position in (3, 4, 6))
    causal = bool(attribute(node, "is_causal", 0))

    # Which keys a query may see, known now (numpy) and at run time (a value).
    fixed: np.ndarray | None = None
    moving: Any = None
    row, column = np.arange(queries)[:, None], np.arange(keys)[None, :]
    if causal and filled is None:
        before = (onnx_graph.static_shape(past) or (0, 0, 0))[2] if past is not None else 0
        fixed = column <= row + before
    if filled is not None:
        batch = (onnx_graph.static_shape(query) or ())[0]
        counts = tape.reshape(filled, (batch, 1, 1, 1))
        needed = column + 1 + np.zeros_like(row)
        if causal:
            needed = np.maximum(needed, column - row + queries)
        moving = tape.op("LessOrEqual", tape.const(needed.astype(np.int64)), counts)

    added: Any = None
    if mask is not None:
        mask = _widened(mask, keys, tape)
        if mask is None:
            return None
        if mask.dtype != ir.DataType.BOOL:
            added = mask
        else:
            known = onnx_graph.constant(mask)
            if known is not None:
                fixed = known.numpy() if fixed is None else fixed & known.numpy()
            else:
                moving = mask if moving is None else tape.op("And", moving, mask)
    return _put_together(fixed, moving, added, query, tape)


def _put_together(fixed: np.ndarray | None, moving: Any, added: Any, query: ir.Value, tape: Tape) -> Bias:
    guard = moving is not None or (fixed is not None and not fixed.any(-1).all())
    # A mask of floats may hold any number; where there is none, fp16 can hold all of it.
    forbidden, nothing = (FORBIDDEN, SEES_NOTHING) if added is None else (-np.inf, -np.inf)
    if added is not None:
        known = onnx_graph.constant(added)
        guard = guard or known is None or bool(np.isneginf(known.numpy()).any())
    if fixed is not None and not fixed.all():
        if moving is not None:
            moving = tape.op("And", moving, tape.const(fixed))
        else:
            rule = tape.const(np.where(fixed, 0, forbidden), query.dtype)
            added = rule if added is None else tape.op("Add", added, rule)
    if moving is not None:
        rule = tape.op("Where", moving, tape.like(query, 0), tape.like(query, forbidden))
        added = rule if added is None else tape.op("Add", added, rule)
    if added is None or not guard:
        return Bias(added, None)
    best = tape.reduce("ReduceMax", added, [-1], keepdims=True)
    return Bias(added, tape.op("Greater", best, tape.like(best, nothing)))


def _widened(mask: ir.Value, keys: int, tape: Tape) -> Any:
    """``mask`` with its last dimension filled up to ``keys`` by what forbids a key."""
    shape = onnx_graph.static_shape(mask)
    if shape is None:
        return None
    missing = keys - shape[-1]
    if missing <= 0 or shape[-1] == 1:
        return mask
    forbidden = False if mask.dtype == ir.DataType.BOOL else -np.inf
    return tape.op("Concat", mask, tape.const(np.full((*shape[:-1], missing), forbidden), mask.dtype), axis=-1)
