"""Rows of one value, each multiplied with the same weights -> one product, of which the rows are taken.

So exporters write recurrent cells, step by step. The toolkit stores weights once for each node that reads them: 20
steps made 67 MB of a model of 6.7 MB (measured), and the compiled code would read them as often.
"""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, operand
from ort_rknn_converters.passes.base import FLOATS, Context, Pass, Tape, kept_for_cpu

__all__ = ["SharedProducts"]

_OLDEST = 13

_WIDE = 4096
"""Width of rows from which on they are images of one pixel, and the product a Conv. Seen for rk3588: a MatMul of
[20, 4096] does not fit the NPU's registers, the Conv does, and so does a MatMul of [20, 4088] or [16, 4096]."""

Key = tuple[ir.Value, int, str, ir.Value, "ir.Value | None", int]


class SharedProducts(Pass):
    """Computes the products of several rows with one weight as one product: exact."""

    name = "shared-products"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Gathers of single rows in the main graph."""
        if ctx.opset < _OLDEST:
            return ()
        groups: dict[Key, list[tuple[ir.Node, ir.Node]]] = {}
        for node in model.graph:
            if node.op_type in ("Gemm", "MatMul") and not node.domain and not kept_for_cpu(node, ctx):
                found = _row_product(node)
                if found is not None:
                    key, gather = found
                    groups.setdefault(key, []).append((gather, node))
        done = 0
        for key, members in groups.items():
            if len(members) > 1:
                _hoist(model, ctx, key, members)
                done += len(members)
        return (f"{done} products of rows with the same weights made one for all rows",) if done else ()


def _row_product(node: ir.Node) -> tuple[Key, ir.Node] | None:
    """Likeness of a product with constant weights to others, and the Gather of one row that it reads."""
    row, weights, bias = (operand(node, position) for position in range(3))
    gather = row.producer() if row is not None else None
    if gather is None or gather.op_type != "Gather" or gather.domain or weights is None:
        return None
    x, shape = gather.inputs[0], onnx_graph.static_shape(gather.inputs[0])
    index, matrix = onnx_graph.constant(gather.inputs[1]), onnx_graph.static_shape(weights)
    if x is None or shape is None or index is None or index.size != 1 or onnx_graph.constant(weights) is None:
        return None
    if x.dtype not in FLOATS or matrix is None or len(matrix) != 2:
        return None
    axis = attribute(gather, "axis", 0) % max(1, len(shape))
    if axis == len(shape) - 1 or len(shape) < 2:
        return None
    if node.op_type == "Gemm":
        plain = attribute(node, "alpha", 1.0) == 1.0 and not attribute(node, "transA", 0)
        wide = bias is None or (onnx_graph.constant(bias) is not None and len(onnx_graph.static_shape(bias) or ()) == 1)
        if not plain or not wide or (bias is not None and attribute(node, "beta", 1.0) != 1.0):
            return None
    return (x, axis, node.op_type, weights, bias, int(attribute(node, "transB", 0))), gather


def _hoist(model: ir.Model, ctx: Context, key: Key, members: list[tuple[ir.Node, ir.Node]]) -> None:
    x, axis, _, weights, bias, turned = key
    first = min((gather for gather, _ in members), key=list(model.graph).index)
    tape = Tape(model, ctx, ctx.opset, first)
    shape, width = onnx_graph.static_shape(x), onnx_graph.static_shape(weights)
    assert shape is not None
    assert width is not None
    if shape[-1] >= _WIDE:
        out = width[0 if turned else 1]
        filters = tape.reshape(
            weights if turned else tape.op("Transpose", weights, perm=[1, 0]), (out, shape[-1], 1, 1)
        )
        pixels = tape.reshape(x, (prod(shape[:-1]), shape[-1], 1, 1))
        whole = tape.reshape(tape.op("Conv", pixels, filters), (*shape[:-1], out))
    else:
        whole = tape.op("MatMul", x, tape.op("Transpose", weights, perm=[1, 0]) if turned else weights)
    if bias is not None:
        whole = tape.op("Add", whole, bias)
    tape.insert()
    for gather, node in members:
        index = gather.inputs[1]
        taken = Tape(model, ctx, ctx.opset, node)
        taken.commit([taken.op("Gather", whole, index, axis=axis)])
