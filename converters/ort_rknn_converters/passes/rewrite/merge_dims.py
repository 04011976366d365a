"""Ops on more dimensions than the compiler or the board takes -> the same op with neighbouring dimensions as one.

Attention in windows multiplies matrices of five dimensions, convex upsampling and involution work on six and seven.
Nearly always some neighbours are treated alike, and are one dimension to the op.
"""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, operand
from ort_rknn_converters.passes.base import Context, Pass, Tape, kept_for_cpu
from ort_rknn_converters.passes.rewrite.mergeable_dims import Groups, neighbours
from ort_rknn_converters.passes.simplify.identity import bypass

__all__ = ["FewerDims"]

_PLAIN = (
    "Abs Add And Clip Cos Div Elu Equal Erf Exp Expand Floor Greater GreaterOrEqual HardSigmoid HardSwish LeakyRelu "
    "Less LessOrEqual Log Max Min Mul Neg Not Pow Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum Relu "
    "Round Sigmoid Sin Softplus Sqrt Sub Tanh Where"
)
_MANY = dict.fromkeys(_PLAIN.split(), 5) | {
    "LayerNormalization": 4,
    "LogSoftmax": 6,
    "MatMul": 4,
    "Softmax": 6,
    "Tile": 4,
    "Transpose": 6,
}
"""Op -> the most dimensions it is left with: the limits of :mod:`ort_rknn_converters.op_support.decide`. Those of the
plain ops are rk3566's; the others' compiler would do itself what is done here."""

_FOLLOW = 5
"""From so many dimensions on an op follows the ``Reshape`` before it: nothing stands between two matrix products then
that the compiler would not see as attention."""


class FewerDims(Pass):
    """Exact: the same numbers in the same order."""

    name = "fewer-dims"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Merges dimensions of ops, and of those that follow where that saves a ``Reshape``."""
        done: Counter[str] = Counter()
        for node in list(model.graph):
            limit = _MANY.get(node.op_type)
            if node.domain or limit is None or kept_for_cpu(node, ctx):
                continue
            if ctx.opset < 13 and node.op_type in ("LogSoftmax", "Softmax"):
                continue  # they took all dimensions from their axis on as one
            rank = max((len(value.shape or ()) for value in (*node.inputs[:1], *node.outputs) if value), default=0)
            result = len(node.outputs[0].shape or ())
            wide = rank > limit or (node.op_type.startswith("Reduce") and result > 4)
            if not (wide or (done and rank >= _FOLLOW)):
                continue
            groups = neighbours(node)
            if groups is None or len(groups) > min(limit, rank - 1) or not (wide or _saves_reshape(node, groups)):
                continue
            tape = Tape(model, ctx, ctx.opset, node)
            tape.commit([_smaller(node, groups, tape)])
            done[node.op_type] += 1
        if done:
            _join_reshapes(model.graph)
        return tuple(f"{count} {op} computed with neighbouring dimensions as one" for op, count in done.items())


def _saves_reshape(node: ir.Node, groups: Groups) -> bool:
    """Whether an operand comes from a ``Reshape`` of just the shape that is wanted."""
    for value in node.inputs:
        maker = value.producer() if value is not None else None
        if value is None or maker is None or maker.op_type != "Reshape":
            continue
        if onnx_graph.static_shape(maker.inputs[0]) == groups.shape_of(value):
            return True
    return False


def _smaller(node: ir.Node, groups: Groups, tape: Tape) -> ir.Value:
    kind = node.op_type
    axis, keep = groups.of_axis, dict(node.attributes)
    operands = list(node.inputs)
    taken: list[ir.Value | None] = [_grouped(value, groups, tape) for value in operands[: _spatial(node)]]
    if kind.startswith("Reduce"):
        axes = sorted({axis(one) for one in groups.axes})
        assert taken[0] is not None
        made = tape.reduce(kind, taken[0], axes, keepdims=True)
    elif kind in ("Softmax", "LogSoftmax", "LayerNormalization"):
        attributes = {name: value.value for name, value in keep.items() if name != "axis"}
        made = tape.op(kind, *taken, *operands[1:], axis=axis(groups.axes[0]), **attributes)
    elif kind in ("Tile", "Expand"):
        made = tape.op(kind, taken[0], tape.const(list(groups.argument)))
    elif kind == "Transpose":
        made = tape.op(kind, taken[0], perm=list(groups.argument))
    else:
        made = tape.op(kind, *taken, **{name: value.value for name, value in keep.items()})
    shape = onnx_graph.static_shape(node.outputs[0])
    assert shape is not None
    result: ir.Value = tape.reshape(made, shape)
    return result


def _spatial(node: ir.Node) -> int:
    """Counts the inputs that have the dimensions in question."""
    single = ("Tile", "Expand", "LayerNormalization")
    return 1 if node.op_type in single or node.op_type.startswith("Reduce") else len(node.inputs)


def _grouped(value: ir.Value | None, groups: Groups, tape: Tape) -> ir.Value | None:
    if value is None:
        return None
    shape = groups.shape_of(value)
    return value if shape == onnx_graph.static_shape(value) else tape.reshape(value, shape)


def _join_reshapes(graph: ir.Graph) -> None:
    """A ``Reshape`` of a ``Reshape`` is one, and one to the shape there is already is none."""
    for node in list(graph):
        source = node.inputs[0] if node.op_type == "Reshape" and not node.domain else None
        shape = onnx_graph.static_shape(node.outputs[0])
        wanted = onnx_graph.constant(operand(node, 1))
        if source is None or shape is None or wanted is None or 0 in wanted.numpy():
            continue
        maker = source.producer()
        if maker is not None and maker.op_type == "Reshape" and not maker.domain and not attribute(maker, "allowzero"):
            source = maker.inputs[0]
            node.replace_input_with(0, source)
        if source is not None and onnx_graph.static_shape(source) == shape:
            bypass(node, source, node.outputs[0])
