"""Ops that compute on 8-bit values (QLinearConv, QGemm ...) -> ops on floats, between Dequantize- and QuantizeLinear.

onnxruntime's quantizer and others write models in either form. The compiler refuses the first and makes int8 code of
the second; onnxruntime makes the first of the second again where it runs on the CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, operand, operands
from ort_rknn_converters.passes.base import Context, Pass, Tape, kept_for_cpu

__all__ = ["QOperators"]

_OLDEST, _PER_AXIS = 10, 13
_BYTES = frozenset({ir.DataType.INT8, ir.DataType.UINT8})
_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
_SOFTMAX_PER_AXIS = 13

_MOVES = frozenset(
    {"DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "SpaceToDepth", "Split"}
    | {"Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Ops whose result has the scale of what they are given."""

Grid = tuple["ir.Value | None", "ir.Value | None"]


class _Writer:
    """Writes the float form of one node."""

    def __init__(self, tape: Tape, known: dict[tuple[Any, ...], ir.Value], opset: int) -> None:
        self.tape = tape
        self._known = known
        self._opset = opset

    def float_of(self, position: int, node: ir.Node) -> Any:
        """Dequantizes the operand at a position; its scale and zero point follow it. ``None`` where that is no grid."""
        value, scale, zero = (operand(node, position + place) for place in range(3))
        return None if value is None else self.dequantized(value, (scale, zero))

    def dequantized(self, value: ir.Value, grid: Grid, axis: int | None = None) -> Any:
        """Dequantizes a value; once for all who want it."""
        scale = onnx_graph.constant(grid[0])
        zero = onnx_graph.constant(grid[1])
        if scale is None or (grid[1] is not None and zero is None):
            return None
        key = value, *grid, axis
        if key not in self._known:
            if scale.size > 1 and axis is None:
                return None
            if scale.size > 1 and self._opset < _PER_AXIS:
                return self._numbers(value, scale, zero, axis or 0)
            along = axis if scale.size > 1 else None
            self._known[key] = self.tape.op("DequantizeLinear", value, *self._plain(grid, scale), axis=along)
        return self._known[key]

    def _plain(self, grid: Grid, scale: Any) -> list[ir.Value | None]:
        """The scale of a whole tensor as a scalar, whatever shape it was written in."""
        if scale.size > 1:
            return list(grid)
        tensors = [onnx_graph.constant(value) for value in grid]
        return [
            value if tensor.shape.numpy() == () else self.tape.const(tensor.numpy().reshape(()), tensor.dtype)
            for value, tensor in zip(grid, tensors, strict=True)
            if value is not None and tensor is not None
        ]

    def _numbers(self, value: ir.Value, scale: Any, zero: Any, axis: int) -> Any:
        stored = onnx_graph.constant(value)
        if stored is None:
            return None
        shape = [-1 if place == axis % len(stored.shape) else 1 for place in range(len(stored.shape))]
        lowest = np.zeros(()) if zero is None else zero.numpy().astype(np.float32)
        lowest = lowest.reshape(shape if lowest.size > 1 else ())
        return self.tape.const((stored.numpy().astype(np.float32) - lowest) * scale.numpy().reshape(shape))

    def rounded(self, value: Any, scale: ir.Value | None, zero: ir.Value | None) -> Any:
        """Quantizes a result."""
        given = onnx_graph.constant(scale)
        if given is None or given.size > 1 or (zero is not None and onnx_graph.constant(zero) is None):
            return None
        return self.tape.op("QuantizeLinear", value, *self._plain((scale, zero), given))

    def bias(self, value: ir.Value | None, scales: Sequence[ir.Value | None], alpha: float = 1.0) -> Any:
        """Dequantizes the sums that a product begins with: their scale is the product of its operands'."""
        if value is None:
            return None
        first, second = (onnx_graph.constant(scale) for scale in scales)
        if first is None or second is None:
            return None
        scale = (alpha * first.numpy().reshape(-1) * second.numpy().reshape(-1)).astype(np.float32)
        stored = onnx_graph.constant(value)
        if stored is None or len(stored.shape) != 1 or scale.size not in (1, stored.size):
            return None
        if scale.size > 1 and self._opset < _PER_AXIS:
            return self.tape.const(stored.numpy().astype(np.float32) * scale)
        axis = 0 if scale.size > 1 else None
        return self.tape.op("DequantizeLinear", value, self.tape.const(scale if axis == 0 else scale[0]), axis=axis)


def _conv(node: ir.Node, to: _Writer) -> Any:
    weight, w_scale, w_zero, y_scale, y_zero, bias = operands(node, 9)[3:]
    weights = None if weight is None else to.dequantized(weight, (w_scale, w_zero), 0)
    start = to.bias(bias, (operand(node, 1), w_scale))
    floats = to.float_of(0, node)
    if floats is None or weights is None or (bias is not None and start is None):
        return None
    attributes = {name: attribute(node, name) for name in _CONV}
    return to.rounded(to.tape.op("Conv", floats, weights, start, **attributes), y_scale, y_zero)


def _matmul(node: ir.Node, to: _Writer) -> Any:
    second = operand(node, 3)
    if second is None or second.shape is None:
        return None
    a, b = to.float_of(0, node), to.dequantized(second, (operand(node, 4), operand(node, 5)), len(second.shape) - 1)
    if a is None or b is None:
        return None
    return to.rounded(to.tape.op("MatMul", a, b), operand(node, 6), operand(node, 7))


def _gemm(node: ir.Node, to: _Writer) -> Any:
    turned, alpha = int(attribute(node, "transB", 0)), float(attribute(node, "alpha", 1.0))
    second, start = operand(node, 3), operand(node, 6)
    if second is None:
        return None
    a, b = to.float_of(0, node), to.dequantized(second, (operand(node, 4), operand(node, 5)), 0 if turned else 1)
    bias = to.bias(start, (operand(node, 1), operand(node, 4)), alpha)
    if a is None or b is None or (start is not None and bias is None):
        return None
    y = to.tape.op("Gemm", a, b, bias, alpha=alpha, transA=int(attribute(node, "transA", 0)), transB=turned)
    return y if operand(node, 7) is None else to.rounded(y, operand(node, 7), operand(node, 8))


def _two(op: str) -> Callable[[ir.Node, _Writer], Any]:
    def written(node: ir.Node, to: _Writer) -> Any:
        a, b = to.float_of(0, node), to.float_of(3, node)
        return None if a is None or b is None else to.rounded(to.tape.op(op, a, b), operand(node, 6), operand(node, 7))

    return written


def _one(op: str, *names: str) -> Callable[[ir.Node, _Writer], Any]:
    def written(node: ir.Node, to: _Writer) -> Any:
        x = to.float_of(0, node)
        if x is None or attribute(node, "channels_last", 0):
            return None
        attributes = {name: attribute(node, name) for name in names}
        return to.rounded(to.tape.op(op, x, **attributes), operand(node, 3), operand(node, 4))

    return written


def _softmax(node: ir.Node, to: _Writer) -> Any:
    rank = None if node.inputs[0] is None or node.inputs[0].shape is None else len(node.inputs[0].shape)
    axis = int(attribute(node, "axis", -1))
    whole = int(attribute(node, "opset", _SOFTMAX_PER_AXIS)) < _SOFTMAX_PER_AXIS or to.tape.opset < _SOFTMAX_PER_AXIS
    if whole and (rank is None or axis % rank != rank - 1):
        return None  # it took all dimensions from there on as one
    return _one("Softmax", "axis")(node, to)


def _reduce_mean(node: ir.Node, to: _Writer) -> Any:
    x = to.float_of(0, node)
    if x is None:
        return None
    axes, keep = attribute(node, "axes"), bool(attribute(node, "keepdims", 1))
    return to.rounded(to.tape.reduce("ReduceMean", x, axes, keepdims=keep), operand(node, 3), operand(node, 4))


def _concat(node: ir.Node, to: _Writer) -> Any:
    parts = [to.float_of(position, node) for position in range(2, len(node.inputs), 3)]
    if any(part is None for part in parts):
        return None
    return to.rounded(to.tape.op("Concat", *parts, axis=attribute(node, "axis")), operand(node, 0), operand(node, 1))


def _where(node: ir.Node, to: _Writer) -> Any:
    a, b = to.float_of(1, node), to.float_of(4, node)
    if a is None or b is None:
        return None
    return to.rounded(to.tape.op("Where", node.inputs[0], a, b), operand(node, 7), operand(node, 8))


def _quantize(node: ir.Node, to: _Writer) -> Any:
    x, scale, zero = operands(node, 3)
    return to.rounded(x, scale, zero) if zero is None or zero.dtype in _BYTES else None


def _dequantize(node: ir.Node, to: _Writer) -> Any:
    x = node.inputs[0]
    whole = x is not None and x.dtype in _BYTES and not attribute(node, "block_size", 0)
    return to.float_of(0, node) if whole else None


_FORMS: dict[tuple[str, str], Callable[[ir.Node, _Writer], Any]] = {
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
} | {
    ("com.microsoft", op): form
    for op, form in {
        "DequantizeLinear": _dequantize,
        "QGemm": _gemm,
        "QLinearAdd": _two("Add"),
        "QLinearAveragePool": _one("AveragePool", *_POOL),
        "QLinearConcat": _concat,
        "QLinearGlobalAveragePool": _one("GlobalAveragePool"),
        "QLinearLeakyRelu": _one("LeakyRelu", "alpha"),
        "QLinearMul": _two("Mul"),
        "QLinearReduceMean": _reduce_mean,
        "QLinearSigmoid": _one("Sigmoid"),
        "QLinearSoftmax": _softmax,
        "QLinearWhere": _where,
        "QuantizeLinear": _quantize,
    }.items()
}


class QOperators(Pass):
    """The definitions: a sum of products of whole numbers is the product of what they stand for.

    Left to the CPU: scales that are computed at run time, scales for each row, layouts of channels last.
    """

    name = "qoperators"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Also moves of 8-bit values between such ops, in the main graph."""
        if ctx.opset < _OLDEST:
            return ()
        done: Counter[str] = Counter()
        known: dict[tuple[Any, ...], ir.Value] = {}
        for node in list(model.graph):
            form = _FORMS.get((node.domain, node.op_type))
            if form is None and not node.domain:
                form = _moved if _is_move(node) else _from_table if _reads_table(node) else None
            if form is None or kept_for_cpu(node, ctx):
                continue
            tape = Tape(model, ctx, ctx.opset, node)
            before = dict(known)
            made = form(node, _Writer(tape, known, ctx.opset))
            if made is None:
                tape.discard()
                known = before
                continue
            tape.commit(made if isinstance(made, list) else [made])
            done[node.op_type] += form is not _moved and form is not _from_table
        said = "written with DequantizeLinear and QuantizeLinear"
        return tuple(f"{count} {op} {said}" for op, count in done.items() if count)


def _is_move(node: ir.Node) -> bool:
    """Whether a node moves 8-bit values whose scale is known, and that go on as such."""
    if node.domain or node.op_type not in _MOVES or any(value.is_graph_output() for value in node.outputs):
        return False
    return _moved_grid(node) is not None


def _moved_grid(node: ir.Node) -> Grid | None:
    """The scale and zero point that were used for what a node moves."""
    x = operand(node, 0)
    maker = x.producer() if x is not None else None
    if maker is None or maker.op_type != "QuantizeLinear":
        return None
    grid = operand(maker, 1), operand(maker, 2)
    tensors = [onnx_graph.constant(value) for value in grid if value is not None]
    return grid if all(one is not None and one.size == 1 for one in tensors) else None


def _moved(node: ir.Node, to: _Writer) -> Any:
    x, grid = node.inputs[0], _moved_grid(node)
    floats = None if x is None or grid is None else to.dequantized(x, grid)
    if floats is None or grid is None:
        return None
    kept = {name: attr.value for name, attr in node.attributes.items()}
    results = to.tape.op(node.op_type, floats, *node.inputs[1:], outputs=len(node.outputs), **kept)
    rounded = [to.rounded(value, *grid) for value in (results if isinstance(results, tuple) else (results,))]
    return None if any(value is None for value in rounded) else rounded


def _reads_table(node: ir.Node) -> bool:
    """Whether a node dequantizes rows of a constant."""
    maker = node.inputs[0].producer() if node.op_type == "DequantizeLinear" and node.inputs[0] is not None else None
    if maker is None or maker.domain or maker.op_type != "Gather" or maker.inputs[0] is None:
        return False
    return maker.inputs[0].dtype in _BYTES and onnx_graph.constant(maker.inputs[0]) is not None


def _from_table(node: ir.Node, to: _Writer) -> Any:
    maker = node.inputs[0].producer() if node.inputs[0] is not None else None
    table = maker.inputs[0] if maker is not None else None
    floats = None if table is None else to.dequantized(table, (operand(node, 1), operand(node, 2)))
    if maker is None or floats is None:
        return None
    return to.tape.op("Gather", floats, maker.inputs[1], axis=attribute(maker, "axis", 0))
