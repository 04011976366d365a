"""Finds neighbouring dimensions of an op's tensors that may be taken as one without changing what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, operand
from ort_rknn_converters.passes.base import FLOATS
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Groups", "neighbours"]

Shape = tuple[int, ...]

_KEPT = 2
"""Dimensions at the end that stay apart if possible: those of a matrix or an image."""

_FEW = 4
"""Most dimensions aimed at: what the vendor lists for nearly all ops."""


@frozen
class Groups:
    """Dimensions in groups.

    Attributes:
        members: First and last-plus-one dimension of each group.
        rank: How many dimensions there are.
        axes: The op's own axes, counted from the front.
        argument: What its list-valued parameter becomes: repeats, a shape or a permutation.
    """

    members: tuple[tuple[int, int], ...]
    rank: int
    axes: tuple[int, ...] = ()
    argument: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.members)

    def merged(self, shape: Sequence[int]) -> Shape:
        """A shape of all dimensions, in groups."""
        return tuple(prod(shape[first:end]) for first, end in self.members)

    def shape_of(self, value: ir.Value) -> Shape:
        """The shape of an operand in groups; where it had no dimension in front it still has none."""
        shape = onnx_graph.static_shape(value) or ()
        whole = self.merged((1,) * (self.rank - len(shape)) + shape)
        front = sum(end <= self.rank - len(shape) for _, end in self.members)
        return whole[front:]

    def of_axis(self, axis: int) -> int:
        """The group a dimension is in."""
        return next(number for number, (first, end) in enumerate(self.members) if first <= axis < end)


def neighbours(node: ir.Node) -> Groups | None:
    """The dimensions of an op in as few groups as need be, or ``None`` where that is not known.

    Args:
        node: One of the ops of :mod:`ort_rknn_converters.passes.rewrite.merge_dims`.
    """
    shapes = [onnx_graph.static_shape(value) for value in node.inputs if value is not None]
    source, result = operand(node, 0), onnx_graph.static_shape(node.outputs[0])
    before = onnx_graph.static_shape(source)
    if source is None or before is None or result is None or not result or None in shapes or 0 in (*before, *result):
        return None
    if source.dtype not in FLOATS and source.dtype != ir.DataType.BOOL:
        return None
    kind = node.op_type
    if kind == "MatMul":
        return _matmul(before, onnx_graph.static_shape(operand(node, 1)), result)
    if kind.startswith("Reduce"):
        return _reduce(node, before)
    if kind in ("Softmax", "LogSoftmax", "LayerNormalization"):
        axis = int(attribute(node, "axis", -1)) % len(before)
        if kind == "LayerNormalization" and (axis != len(before) - 1 or len(node.outputs) > 1):
            return None
        return _in_groups([axis not in (one, one + 1) for one in range(len(before) - 1)], axes=(axis,))
    if kind == "Transpose":
        return _transpose(node, before)
    if kind == "Tile":
        return _tile(node, before)
    operands = [before] if kind == "Expand" else [shape for shape in shapes if shape is not None]
    found = _in_groups(_alike(operands, result))
    return found if kind != "Expand" else Groups(found.members, found.rank, argument=found.merged(result))


def _in_groups(joins: Sequence[bool], axes: Shape = (), *, kept: int = _KEPT) -> Groups:
    """Groups of a tensor whose dimensions ``i`` and ``i + 1`` may be joined where ``joins[i]``."""
    rank = len(joins) + 1

    def cut(last: int) -> tuple[tuple[int, int], ...]:
        """Cuts into as few groups as can be, the joins from ``last`` on left out."""
        firsts = [0, *(one + 1 for one, join in enumerate(joins) if not join or one >= last)]
        return tuple(zip(firsts, [*firsts[1:], rank], strict=True))

    members = cut(rank - kept - 1)
    return Groups(members if len(members) <= _FEW else cut(rank), rank, axes)


def _alike(operands: Sequence[Shape], result: Shape) -> list[bool]:
    """Neighbours that every operand either has both of in full, or broadcasts both of."""
    rank = len(result)
    padded = [(1,) * (rank - len(shape)) + shape for shape in operands]

    def joined(one: int) -> bool:
        pair = slice(one, one + 2)
        return all(shape[pair] in (result[pair], (1, 1)) for shape in padded)

    return [joined(one) for one in range(rank - 1)]


def _matmul(first: Shape, second: Shape | None, result: Shape) -> Groups | None:
    if second is None or min(len(first), len(second)) < 2:
        return None
    batch = _alike([first[:-2], second[:-2]], result[:-2])
    return _in_groups([*batch, False, False])


def _reduce(node: ir.Node, before: Shape) -> Groups | None:
    axes = attribute(node, "axes")
    if (given := operand(node, 1)) is not None:
        known = onnx_graph.constant(given)
        axes = known.numpy().tolist() if known is not None else None
    if not axes:
        return None
    gone = {int(axis) % len(before) for axis in axes}
    joins = [(one in gone) == (one + 1 in gone) for one in range(len(before) - 1)]
    return _in_groups(joins, tuple(sorted(gone)))


def _transpose(node: ir.Node, before: Shape) -> Groups:
    order = list(attribute(node, "perm", range(len(before))[::-1]))
    places = {axis: place for place, axis in enumerate(order)}
    joins = [places[one] + 1 == places[one + 1] for one in range(len(before) - 1)]
    found = _in_groups(joins, kept=0)
    firsts = [first for first, _ in found.members]
    perm = tuple(firsts.index(axis) for axis in order if axis in firsts)
    return Groups(found.members, found.rank, argument=perm)


def _tile(node: ir.Node, before: Shape) -> Groups | None:
    known = onnx_graph.constant(operand(node, 1))
    if known is None:
        return None
    repeats = [int(one) for one in known.numpy().tolist()]
    # Repeating a block is repeating its first dimension.
    found = _in_groups([repeat == 1 for repeat in repeats[1:]], kept=0)
    return Groups(found.members, found.rank, argument=tuple(repeats[first] for first, _ in found.members))
