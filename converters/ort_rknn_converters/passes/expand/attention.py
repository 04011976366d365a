"""Attention -> MatMul, Mul(scale), Add(mask), Softmax, MatMul: the form the compiler fuses into one NPU op.

(The op's own function body, with the root of the scale on both sides, crashes two of the compiler's fusing rules.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, operands
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape
from ort_rknn_converters.passes.expand.attention_mask import Bias, bias_of

__all__ = ["Attention", "attend", "heads", "joined"]


class Attention(Rewrite):
    """Writes attention out as products and a softmax; equal to a few roundings, rows that attend to nothing included.

    Left to the CPU: unknown shapes, the windows of version 25, and scores asked for with the mask on them (onnxruntime
    writes the lowest number where this has minus infinity).
    """

    name = "attention"
    op_types = frozenset({"Attention"})
    says = "MatMul, Softmax, MatMul"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Grouped heads are repeated; past keys and values are joined in front."""
        inputs = operands(node, 6)
        shapes = [onnx_graph.static_shape(value) for value in inputs[:3]]
        if any(shape is None or len(shape) not in (3, 4) or 0 in shape for shape in shapes):
            return None
        if any(value is None or value.dtype not in FLOATS for value in inputs[:3]):
            return None
        if any(int(attribute(node, side, -1)) >= 0 for side in ("left_window_size", "right_window_size")):
            return None
        if len(node.outputs) > 3 and node.outputs[3].name and int(attribute(node, "qk_matmul_output_mode", 0)) == 2:
            return None
        q_heads, kv_heads = (int(attribute(node, name, 0)) for name in ("q_num_heads", "kv_num_heads"))
        flat = len(shapes[0] or ()) == 3
        query = heads(inputs[0], q_heads, tape)
        key, value = (heads(each, kv_heads, tape) for each in inputs[1:3])
        if query is None or key is None or value is None:
            return None
        key, value = (_after(past, new, tape) for past, new in zip(inputs[4:6], (key, value), strict=True))
        if onnx_graph.static_shape(key) is None or onnx_graph.static_shape(value) is None:
            return None
        bias = bias_of(node, query, key, tape)
        if bias is None:
            return None
        y, scores = attend(node, query, key, value, bias, tape)
        if flat:
            y = joined(y, tape)
        return [y, key, value, scores][: len(node.outputs)]


def heads(x: ir.Value | None, count: int, tape: Tape) -> Any:
    """``x`` as [batch, heads, length, size], or ``None`` when it cannot be cut like this.

    Args:
        x: [batch, length, heads * size], or cut already.
        count: How many heads.
        tape: Where the nodes are written.
    """
    shape = onnx_graph.static_shape(x)
    if x is None or shape is None or len(shape) == 4:
        return x
    batch, length, hidden = shape
    if count < 1 or hidden % count:
        return None
    return tape.op("Transpose", tape.reshape(x, (batch, length, count, hidden // count)), perm=[0, 2, 1, 3])


def joined(y: ir.Value, tape: Tape) -> Any:
    """The inverse of :func:`heads`: [batch, heads, length, size] as [batch, length, heads * size]."""
    batch, count, length, size = onnx_graph.static_shape(y) or ()
    return tape.reshape(tape.op("Transpose", y, perm=[0, 2, 1, 3]), (batch, length, count * size))


def _after(past: ir.Value | None, new: ir.Value, tape: Tape) -> Any:
    if past is None or 0 in (onnx_graph.static_shape(past) or ()):
        return new
    return tape.op("Concat", past, new, axis=2)


def attend(node: ir.Node, query: Any, key: Any, value: Any, bias: Bias, tape: Tape) -> tuple[Any, Any]:
    """The output as [batch, heads, length, size], and the scores the op's fourth output asks for.

    Args:
        node: The op, for its attributes.
        query: [batch, heads, queries, size].
        key: [batch, heads or a divisor of them, keys, size].
        value: [batch, as many as ``key``, keys, size of the output].
        bias: What is added to the scores, which are [batch, heads, queries, keys].
        tape: Where the nodes are written.
    """
    size = (onnx_graph.static_shape(query) or ())[3]
    scale = attribute(node, "scale")
    scale = 1 / math.sqrt(size) if scale is None else scale
    turned = tape.op("Transpose", _repeated(key, query, tape), perm=[0, 1, 3, 2])
    scores = [tape.op("Mul", tape.op("MatMul", query, turned), tape.like(query, scale))]

    cap = attribute(node, "softcap", 0.0)
    bent = scores[0]
    if cap > 0:
        bent = tape.op("Mul", tape.op("Tanh", tape.op("Div", bent, tape.like(bent, cap))), tape.like(bent, cap))
    scores.append(bent)
    scores.append(bent if bias.added is None else tape.op("Add", bent, bias.added))

    precision = ir.DataType(attribute(node, "softmax_precision", None) or query.dtype)
    wide = precision != query.dtype
    logits = tape.op("Cast", scores[2], to=int(precision)) if wide else scores[2]
    share = tape.op("Softmax", logits, axis=-1)
    share = tape.op("Cast", share, to=int(query.dtype)) if wide else share
    y = tape.op("MatMul", share, _repeated(value, query, tape))
    mode = int(attribute(node, "qk_matmul_output_mode", 0))
    if bias.some is not None:
        # A row with no key at all: the softmax gives NaN, the op zeros.
        y = tape.op("Where", bias.some, y, tape.like(y, 0))
        share = tape.op("Where", bias.some, share, tape.like(share, 0)) if mode == 3 else share
    return y, (*scores, share)[mode]


def _repeated(x: ir.Value, query: ir.Value, tape: Tape) -> Any:
    """``x`` with each head repeated for the queries that share it; a single head is left to broadcasting."""
    batch, heads, length, size = onnx_graph.static_shape(x) or ()
    wanted = (onnx_graph.static_shape(query) or ())[1]
    if heads in (1, wanted):
        return x
    times = wanted // heads
    apart = tape.reshape(x, (batch, heads, 1, length, size))
    shape = tape.const((batch, heads, times, length, size))
    return tape.reshape(tape.op("Expand", apart, shape), (batch, wanted, length, size))
