"""Finds the masked Softmaxes of a graph: where each mask comes from, what it is added to, what guards the result."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.onnx_file.tensor_types import FP16_MAX
from ort_rknn_converters.op_support.fp16_range import SEES_NOTHING, way_to_softmax
from ort_rknn_converters.passes.base import FLOATS
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Edge", "Masked", "Source", "behind_relabels", "masked_softmaxes", "nan_guard"]

_SUSPECTED = FP16_MAX / 4
"""From here on values are suspected to overflow on other inputs."""

_SWALLOWS = 1e8
"""Steps between float32 numbers of this size are 8: scores added to them are lost, by and large."""

_MAKES_MASKS = frozenset({"Add", "Mul", "Where"})
_AS_THEY_ARE = frozenset({"Cast", "Identity"})
_ROWS_AS_THEY_ARE = frozenset({"Reshape", "Squeeze", "Unsqueeze"})
# What gives zeros for zeros, between the product of queries and keys and the mask.
_KEEPS_ZERO = _AS_THEY_ARE | {"Tanh"}
# What networks are made of: finite for finite numbers, and never minus infinity.
_NETWORK = frozenset({"Conv", "Einsum", "Gather", "Gemm", "LayerNormalization", "MatMul", "Sigmoid", "Softmax", "Tanh"})
_COMBINES = frozenset({"Add", "Cast", "Concat", "Expand", "Identity", "Mul", "Reshape", "Slice", "Sub", "Transpose"})


@frozen
class Source:
    """A node with a constant that fp16 cannot hold, or only just, and where that is seen.

    Attributes:
        node: The node.
        positions: Its inputs that are such constants.
        way: All nodes from it to the Softmaxes, both included.
        infinite: Whether the constant is minus infinity: a row of nothing else is NaN.
        swallows: Whether what is added to it is lost.
    """

    node: ir.Node
    positions: tuple[int, ...]
    way: frozenset[ir.Node]
    infinite: bool
    swallows: bool

    @property
    def softmaxes(self) -> set[ir.Node]:
        """Softmaxes in which the mask has its effect."""
        return {node for node in self.way if node.op_type == "Softmax"}


@frozen
class Edge:
    """An input of a node."""

    node: ir.Node
    position: int

    @property
    def value(self) -> ir.Value:
        """Incoming value."""
        value = self.node.inputs[self.position]
        assert value is not None
        return value


@frozen
class Masked:
    """A Softmax over masked scores, or one with a guard and no mask.

    Attributes:
        softmax: The node.
        sources: What its mask is made of.
        mask: The mask alone, [..., queries or 1, keys], where a row of it may forbid everything; else ``None``.
        scores: What is zero when all that is added to the mask is.
        guard: The Where that puts zeros in the place of NaN, if there is one.
    """

    softmax: ir.Node
    sources: tuple[Source, ...] = ()
    mask: ir.Value | None = None
    scores: tuple[Edge, ...] = ()
    guard: ir.Node | None = None

    @property
    def becomes_zero(self) -> bool:
        """Whether a row that sees nothing gives zeros: it is NaN, and the guard catches that."""
        return self.guard is not None and any(source.infinite for source in self.sources)


def masked_softmaxes(graph: ir.Graph) -> Iterator[Masked]:
    """The Softmaxes whose mask or guard can be written in another way."""
    sources = list(_sources(graph))
    for softmax in graph:
        if softmax.op_type != "Softmax" or softmax.domain or not _along_rows(softmax):
            continue
        reaching = tuple(source for source in sources if softmax in source.way)
        guard = nan_guard(softmax)
        if reaching:
            found = _masked(softmax, reaching, guard)
            if found is not None:
                yield found
        elif guard is not None and _from_network(softmax.inputs[0]):
            yield Masked(softmax, guard=guard)


def _sources(graph: ir.Graph) -> Iterator[Source]:
    for node in graph:
        if node.op_type not in _MAKES_MASKS:
            continue
        arrays = {
            position: tensor.numpy().astype(np.float64)
            for position, value in enumerate(node.inputs)
            if value is not None and value.dtype in FLOATS and (tensor := onnx_graph.constant(value)) is not None
        }
        low = {position: array.min() for position, array in arrays.items() if array.min(initial=0) < -_SUSPECTED}
        if not low or any(not (array <= FP16_MAX).all() for array in arrays.values()):
            continue
        way = way_to_softmax(node)
        if way is None or any(each.op_type == "LogSoftmax" for each in way):
            continue
        lowest, half = min(low.values()), node.outputs[0].dtype == ir.DataType.FLOAT16
        yield Source(node, tuple(low), frozenset(way), bool(lowest == -np.inf), bool(half or lowest < -_SWALLOWS))


def _along_rows(softmax: ir.Node) -> bool:
    shape = onnx_graph.static_shape(softmax.inputs[0])
    return shape is not None and softmax.attributes.get_int("axis", -1) in (-1, len(shape) - 1)


def nan_guard(softmax: ir.Node) -> ir.Node | None:
    """``Where(IsNaN(y), 0, y)`` behind the Softmax, if that is all that reads y."""
    shares = softmax.outputs[0]
    users = sorted(shares.consumers(), key=lambda node: node.op_type)
    if shares.is_graph_output() or [node.op_type for node in users] != ["IsNaN", "Where"]:
        return None
    found, guard = users
    if guard.inputs[0] is not found.outputs[0] or guard.inputs[2] is not shares or guard.outputs[0].is_graph_output():
        return None
    zero = onnx_graph.constant(guard.inputs[1])
    return guard if zero is not None and zero.size == 1 and not zero.numpy().any() else None


def _masked(softmax: ir.Node, sources: tuple[Source, ...], guard: ir.Node | None) -> Masked | None:
    infinite, swallows = sources[0].infinite, sources[0].swallows
    if any((source.infinite, source.swallows) != (infinite, swallows) for source in sources):
        return None
    last = behind_relabels(softmax)
    if last is None:
        return None
    if last.op_type == "Where":
        # A row of one number is uniform whatever the number is, but for infinity.
        alone = len(sources) == 1 and sources[0].node is last and not infinite
        return Masked(softmax, sources, guard=guard) if alone else None
    taken = _taken_apart(last, sources)
    if taken is None:
        return None
    mask, scores = taken
    if _width(mask) is None or _width(mask) != _width(last.outputs[0]):
        return None
    if not swallows or _always_sees(mask):
        return Masked(softmax, sources, None, (), guard)
    if infinite and guard is None:
        return None  # NaN it is, and that no NPU would compute
    if infinite and _rank(last.outputs[0]) != _rank(softmax.outputs[0]):
        return None
    if not infinite and sum(source.node.op_type != "Add" for source in sources) > 1:
        return None  # two of them make minus infinity
    return Masked(softmax, sources, mask, tuple(_zeroed_by(edge) for edge in scores), guard)


def behind_relabels(softmax: ir.Node) -> ir.Node | None:
    """Finds what makes the scores, behind nodes that leave every row as it is."""
    value = softmax.inputs[0]
    while value is not None and (node := value.producer()) is not None:
        source = node.inputs[0] if node.inputs else None
        if node.op_type not in _AS_THEY_ARE | _ROWS_AS_THEY_ARE:
            return node
        if node.op_type in _ROWS_AS_THEY_ARE and _width(source) != _width(value):
            return None
        value = source
    return None


def _width(value: ir.Value | None) -> int | None:
    return (onnx_graph.static_shape(value) or (None,))[-1]


def _rank(value: ir.Value) -> int:
    return len(onnx_graph.static_shape(value) or ())


def _taken_apart(node: ir.Node, sources: tuple[Source, ...]) -> tuple[ir.Value, list[Edge]] | None:
    """The mask in a sum, and all else that is added."""
    masks = {value for source in sources for each in source.way for value in each.outputs}
    masks.update(Edge(source.node, position).value for source in sources for position in source.positions)
    mask, added = node.outputs[0], []
    while node.op_type == "Add":
        inside = [position for position in (0, 1) if node.inputs[position] in masks]
        if len(inside) != 1:
            break
        added.append(Edge(node, 1 - inside[0]))
        mask = Edge(node, inside[0]).value
        maker = mask.producer()
        if maker is None:
            break
        node = maker
    return (mask, added) if added else None


def _always_sees(mask: ir.Value) -> bool:
    known = onnx_graph.constant(mask)
    return known is not None and bool((known.numpy() > SEES_NOTHING).any(axis=-1).all())


def _zeroed_by(edge: Edge) -> Edge:
    """The queries, if the scores are nothing but their product with keys, scaled; else the scores themselves."""
    value = edge.value
    while len(value.uses()) == 1 and not value.is_graph_output():
        node = value.producer()
        if node is None:
            break
        if node.op_type == "MatMul":
            return Edge(node, 0)
        scaling = [position for position, other in enumerate(node.inputs[:2]) if _is_scalar(other)]
        if node.op_type in _KEEPS_ZERO:
            position = 0
        elif (node.op_type == "Mul" and len(scaling) == 1) or (node.op_type == "Div" and scaling == [1]):
            position = 1 - scaling[0]
        else:
            break
        value = Edge(node, position).value
    return edge


def _is_scalar(value: ir.Value | None) -> bool:
    known = onnx_graph.constant(value)
    return known is not None and known.size == 1


def _from_network(value: ir.Value | None) -> bool:
    """Whether a value can be taken to have no row of minus infinity: it is computed by layers, scaled and added up."""
    waiting: list[ir.Value | None] = [value]
    seen: set[ir.Value] = set()
    while waiting:
        value = waiting.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        known = onnx_graph.constant(value)
        if known is not None:
            if known.dtype in FLOATS and not (np.abs(known.numpy()) <= FP16_MAX).all():
                return False
            continue
        node = value.producer()
        if node is None:
            return False
        if node.op_type in _COMBINES:
            waiting += node.inputs
        elif node.op_type == "Div" and _is_scalar(node.inputs[1]):
            waiting.append(node.inputs[0])
        elif node.op_type not in _NETWORK:
            return False
    return True
