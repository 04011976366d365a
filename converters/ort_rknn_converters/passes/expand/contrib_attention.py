"""onnxruntime's own Attention and MultiHeadAttention -> the form the compiler fuses into one NPU op."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, is_used, operands
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape
from ort_rknn_converters.passes.expand.attention import attend, heads, joined
from ort_rknn_converters.passes.expand.attention_mask import Bias

__all__ = ["ContribAttention"]


class ContribAttention(Rewrite):
    """Writes onnxruntime's attention ops out, for whole sequences in and out; equal to a few roundings.

    Left to the CPU: caches of past keys, packed inputs, masks given as beginnings and ends, rotary positions.
    """

    name = "contrib-attention"
    domain = "com.microsoft"
    op_types = frozenset({"Attention", "MultiHeadAttention"})
    says = "MatMul, Softmax, MatMul"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Needs known shapes."""
        if any(map(is_used, node.outputs[1:])):
            return None
        projected = _attention(node, tape) if node.op_type == "Attention" else _multi_head(node, tape)
        if projected is None:
            return None
        (query, key, value), mask, added = projected
        count = int(attribute(node, "num_heads", 0))
        query, key, value = (heads(each, count, tape) for each in (query, key, value))
        if query is None or key is None or value is None:
            return None
        bias = _bias(node, query, key, mask, added, tape)
        if bias is None:
            return None
        y, _ = attend(node, query, key, value, bias, tape)
        return [joined(y, tape), *[None] * (len(node.outputs) - 1)]


Projected = tuple[tuple[Any, Any, Any], ir.Value | None, ir.Value | None]


def _attention(node: ir.Node, tape: Tape) -> Projected | None:
    x, weights, bias, mask, past, added, *rest = operands(node, 7)
    shape = onnx_graph.static_shape(weights)
    if x is None or shape is None or x.dtype not in FLOATS or onnx_graph.static_shape(x) is None:
        return None
    if past is not None or rest[0] is not None or attribute(node, "do_rotary", 0):
        return None
    sizes = attribute(node, "qkv_hidden_sizes") or [shape[1] // 3] * 3
    whole = tape.op("MatMul", x, weights)
    whole = whole if bias is None else tape.op("Add", whole, bias)
    ends = np.cumsum([0, *sizes]).tolist()
    parts = [tape.slice(whole, start, end, axis=2) for start, end in pairwise(ends)]
    return (parts[0], parts[1], parts[2]), mask, added


def _multi_head(node: ir.Node, tape: Tape) -> Projected | None:
    query, key, value, bias, mask, added, *rest = operands(node, 10)
    if any(each is not None for each in rest):
        return None
    shapes = [onnx_graph.static_shape(each) for each in (query, key, value)]
    if query is None or query.dtype not in FLOATS or any(shape is None or len(shape) != 3 for shape in shapes):
        return None
    parts: list[Any] = [query, key, value]
    if bias is not None:
        ends = np.cumsum([0, *(shape[2] for shape in shapes if shape is not None)]).tolist()
        parts = [
            tape.op("Add", part, tape.slice(bias, start, end, axis=0))
            for part, (start, end) in zip(parts, pairwise(ends), strict=True)
        ]
    return (parts[0], parts[1], parts[2]), mask, added


def _bias(node: ir.Node, query: ir.Value, key: ir.Value, mask: ir.Value | None, added: Any, tape: Tape) -> Bias | None:
    batch, _, queries, _ = onnx_graph.static_shape(query) or ()
    keys = (onnx_graph.static_shape(key) or ())[2]
    if mask is not None:
        shape = onnx_graph.static_shape(mask)
        if shape == (batch, keys):
            mask = tape.reshape(mask, (batch, 1, 1, keys))
        elif shape == (batch, queries, keys):
            mask = tape.reshape(mask, (batch, 1, queries, keys))
        elif shape != (batch,):
            return None
        if shape == (batch,):
            columns = tape.const(np.arange(keys).reshape(1, 1, 1, keys), mask.dtype)
            allowed = tape.op("Less", columns, tape.reshape(mask, (batch, 1, 1, 1)))
        else:
            allowed = tape.op("Greater", mask, tape.like(mask, 0))
        filler = tape.like(query, attribute(node, "mask_filter_value", -10000.0))
        rule = tape.op("Where", allowed, tape.like(query, 0), filler)
        added = rule if added is None else tape.op("Add", added, rule)
    if attribute(node, "unidirectional", 0):
        lower = np.tril(np.ones((queries, keys), bool), keys - queries)
        rule = tape.const(np.where(lower, 0, -np.inf), query.dtype)
        added = rule if added is None else tape.op("Add", added, rule)
    return Bias(added, None)
