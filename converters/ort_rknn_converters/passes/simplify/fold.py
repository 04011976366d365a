"""Folds what depends on constants and static shapes only; ONNX Runtime computes it."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.evaluate import NATIVE, evaluate
from ort_rknn_converters.graph.nodes import attribute, bodies, is_used
from ort_rknn_converters.onnx_file.protobuf_wire import CONTENT_LIMIT
from ort_rknn_converters.passes.base import Context, Pass, drop_unused

__all__ = ["Fold"]

_GROWTH = 1 << 20
"""Bytes a folded node may give, however small its inputs (a guess: below it a file's size hardly changes)."""

_FACTOR = 4
"""How many times larger than its inputs a folded node's outputs may be: int8 weights that become float32."""

_MOST = 1 << 26
"""Bytes that all folded nodes together may give, however small the model's own constants are: 250 kB of nodes, each
below the other limits, stood for gigabytes. A guess: the masks of the largest transformer seen have 20 MB."""

_SIZED_BY_VALUES = frozenset(
    {"Col2Im", "ConstantOfShape", "DFT", "EyeLike", "Expand", "MaxUnpool", "OneHot", "Pad", "Range", "Resize", "Tile"}
    | {"BlackmanWindow", "CenterCropPad", "HammingWindow", "HannWindow", "MelWeightMatrix", "Upsample"}
)
"""Ops whose output may be of any size, however small their inputs are."""

_NEVER = frozenset(
    # Random, or quantized on purpose.
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"}
    | {"DequantizeLinear", "DynamicQuantizeLinear", "Constant"}
)
"""A weight's DequantizeLinear is folded all the same where nothing else is quantized, or where no integer arithmetic
waits for it: then it only saved space."""

_IN_INTEGERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_ROUNDED = frozenset({"Add", "Div", "Mul", "Sub"})
"""Computed in int8 where the result is rounded to it: the toolkit crashes there on a constant of floats (seen)."""

_SHAPE_READERS = frozenset({"Shape", "Size", "EyeLike"})
"""Ops whose answer depends on the shape (and type) of their input, not on its values."""

_SMALL = 1 << 16
"""Bytes of input below which a node whose output size is unknown is folded all the same (a guess)."""


class Fold(Pass):
    """Replaces nodes of the main graph whose inputs are constants, or whose answer is known from a static shape.

    A node that makes a graph output stays, but its other users get the constant.
    """

    name = "fold"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """One round; values that become known by folding may allow more after shape inference."""
        graph = model.graph
        shapes = self._shapes(graph, ctx)
        nodes: list[ir.Node] = []
        made: set[ir.Value] = set()
        quantized = any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in graph)
        if ctx.room is None:
            ctx.room = max(_MOST, _FACTOR * _constant_bytes(graph))
        room = ctx.room
        for node in graph:
            if node in ctx.endless or not self._foldable(node, made, quantized):
                continue
            size = sum(_bytes(value) or 0 for value in node.outputs if value.name)
            if size > room:
                continue
            room -= size
            nodes.append(node)
            made.update(node.outputs)
        members = set(nodes)
        wanted = [
            value for node in nodes for value in node.outputs if any(user not in members for user, _ in value.uses())
        ]
        results = evaluate(nodes, wanted, model.opset_imports, ctx.endless) if wanted else {}
        for value, array in results.items():
            if array.dtype != object:
                _replace(graph, value, np.asarray(array), ctx)
                ctx.room -= array.nbytes
        drop_unused(model)
        count = shapes + len(results)
        return (
            (f"{onnx_graph.many(count, 'value')} that depend on constants and fixed shapes only computed",)
            if count
            else ()
        )

    def _foldable(self, node: ir.Node, made: set[ir.Value], quantized: bool) -> bool:
        if node.domain or not node.outputs:
            return False
        if node.op_type in _NEVER and (
            node.op_type != "DequantizeLinear" or (quantized and any(map(_in_integers, node.outputs[0].consumers())))
        ):
            return False
        if bodies(node):
            return False
        size = 0
        for value in node.inputs:
            if value is None:
                continue
            tensor = onnx_graph.constant(value)
            if tensor is None and value not in made:
                return False
            if value.dtype not in NATIVE:
                return False
            size += _bytes(value) or 0
        grown = 0
        for value in node.outputs:
            if not value.name:
                continue
            if value.dtype not in NATIVE or not isinstance(value.type, ir.TensorType):
                return False
            known = _bytes(value)
            if known is None:
                if size > _SMALL or (node.op_type in _SIZED_BY_VALUES and not _is_small(node, made)):
                    return False
                continue
            grown += known
        return grown <= min(CONTENT_LIMIT, max(_GROWTH, _FACTOR * size))

    def _shapes(self, graph: ir.Graph, ctx: Context) -> int:
        """Answer ``Shape``, ``Size`` and ``EyeLike`` of static shapes without running anything."""
        count = 0
        for node in list(graph):
            if node.domain or node.op_type not in _SHAPE_READERS or node.inputs[0] is None:
                continue
            value = node.outputs[0]
            answer = _from_shape(node)
            if answer is not None and value.uses():
                _replace(graph, value, answer, ctx)
                count += 1
        return count


def _in_integers(node: ir.Node) -> bool:
    """Whether a node of a quantized model may be computed in int8."""
    if node.op_type in _ROUNDED:
        return any(user.op_type == "QuantizeLinear" for user in node.outputs[0].consumers())
    return node.op_type in _IN_INTEGERS


def _is_small(node: ir.Node, made: set[ir.Value]) -> bool:
    """Whether an output of unknown size cannot be large; inputs that are computed now tell it in the next round."""
    size = 1
    for value in node.inputs:
        if value is not None and value in made:
            return False
        tensor = onnx_graph.constant(value)
        if tensor is not None:
            size *= math.prod(
                max(1, int(abs(number))) for number in tensor.numpy().ravel().tolist() if number == number
            )
        if size > _GROWTH:
            return False
    return True


def _constant_bytes(graph: ir.Graph) -> int:
    return sum(_bytes(value) or 0 for value in graph.initializers.values())


def _from_shape(node: ir.Node) -> np.ndarray | None:
    source = node.inputs[0]
    assert source is not None
    known = onnx_graph.dims(source)
    if known is None:
        return None
    if node.op_type == "Shape":
        # A slice of the shape may be static where the whole is not.
        part = known[slice(attribute(node, "start", 0), attribute(node, "end", None))]
        sizes = [dim for dim in part if isinstance(dim, int)]
        return np.array(sizes, np.int64) if len(sizes) == len(part) else None
    shape = onnx_graph.static_shape(source)
    if shape is None:
        return None
    if node.op_type == "Size":
        return np.array(math.prod(shape), np.int64)
    dtype = ir.DataType(attribute(node, "dtype", source.dtype or 0))
    if len(shape) != 2 or dtype not in NATIVE or math.prod(shape) * dtype.itemsize > _GROWTH:
        return None
    return np.eye(*shape, k=attribute(node, "k", 0), dtype=dtype.numpy())


def _bytes(value: ir.Value) -> int | None:
    shape = onnx_graph.static_shape(value)
    if shape is None or value.dtype is None or value.dtype == ir.DataType.STRING:
        return None
    return int(math.prod(shape) * value.dtype.itemsize)


def _replace(graph: ir.Graph, value: ir.Value, array: np.ndarray, ctx: Context) -> None:
    """Let the users of ``value`` read ``array``; a graph output keeps its node."""
    base = value.name or "constant"
    stays = value.is_graph_output()
    node = value.producer()
    assert node is not None
    if stays or len(node.outputs) > 1:
        name = ctx.name(base)
    else:
        name, value.name = base, None
    new = onnx_graph.initializer(name, ir.tensor(array))
    for user, index in value.uses():
        user.replace_input_with(index, new)
    if not stays and not any(map(is_used, node.outputs)):
        graph.remove(node, safe=True)
    graph.register_initializer(new)
