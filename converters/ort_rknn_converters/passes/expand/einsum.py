"""Einsum of products and transpositions -> Transpose, Reshape, ReduceSum, MatMul, Mul."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape

__all__ = ["Einsum"]


class Einsum(Rewrite):
    """One operand: transposed and summed. More: multiplied two by two from the left, as matrix products.

    The same sums in another order. Left to the CPU: diagonals (an index twice in one operand), an ellipsis, an index
    with different sizes, integers.
    """

    name = "einsum"
    op_types = frozenset({"Einsum"})
    says = "matrix products"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Needs known shapes."""
        operands = _operands(node)
        if operands is None:
            return None
        sources, result = operands
        (labels, value), rest = sources[0], sources[1:]
        for index, (other_labels, other) in enumerate(rest):
            later = set(result).union(*(each for each, _ in rest[index + 1 :]))
            labels, value = _product(labels, value, other_labels, other, later, tape)
        labels, value = _summed(labels, value, set(result), tape)
        return [_arranged(labels, value, result, tape)]


def _operands(node: ir.Node) -> tuple[list[tuple[str, ir.Value]], str] | None:
    """(indices, value) of each operand and the indices of the result, or ``None`` for what is not handled here."""
    equation = str(attribute(node, "equation", "")).replace(" ", "")
    if "." in equation:
        return None
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        result = "".join(sorted(label for label in set(left) - {","} if left.count(label) == 1))
    if len(terms) != len(node.inputs) or any(len(set(term)) != len(term) for term in (*terms, result)):
        return None
    sizes: dict[str, int] = {}
    sources = []
    for term, value in zip(terms, node.inputs, strict=True):
        shape = onnx_graph.static_shape(value)
        if value is None or shape is None or value.dtype not in FLOATS or len(shape) != len(term) or 0 in shape:
            return None
        if any(sizes.setdefault(label, size) != size for label, size in zip(term, shape, strict=True)):
            return None
        sources.append((term, value))
    return (sources, result) if set(result) <= set(sizes) else None


def _product(a: str, x: ir.Value, b: str, y: ir.Value, later: set[str], tape: Tape) -> tuple[str, Any]:
    """One product of two; indices that only one of them has and nobody needs later are summed first."""
    a, x = _summed(a, x, later | set(b), tape)
    b, y = _summed(b, y, later | set(a), tape)
    both = [label for label in a if label in b]
    batch = "".join(label for label in both if label in later)
    inner = "".join(label for label in both if label not in later)
    rows = "".join(label for label in a if label not in b)
    columns = "".join(label for label in b if label not in a)
    sizes = {
        **dict(zip(a, onnx_graph.static_shape(x) or (), strict=True)),
        **dict(zip(b, onnx_graph.static_shape(y) or (), strict=True)),
    }

    def size(labels: str) -> int:
        return math.prod(sizes[label] for label in labels)

    def shaped(value: Any, *groups: str) -> Any:
        wanted = (*(sizes[label] for label in batch), *(size(group) for group in groups))
        return value if onnx_graph.static_shape(value) == wanted else tape.reshape(value, wanted)

    x = shaped(_arranged(a, x, batch + rows + inner, tape), rows, inner)
    y = shaped(_arranged(b, y, batch + inner + columns, tape), inner, columns)
    product = tape.op("MatMul", x, y)
    labels = batch + rows + columns
    whole = tuple(sizes[label] for label in labels)
    return labels, product if onnx_graph.static_shape(product) == whole else tape.reshape(product, whole)


def _summed(labels: str, value: ir.Value, needed: set[str], tape: Tape) -> tuple[str, Any]:
    axes = [axis for axis, label in enumerate(labels) if label not in needed]
    if not axes:
        return labels, value
    kept = "".join(label for label in labels if label in needed)
    return kept, tape.reduce("ReduceSum", value, axes, keepdims=False)


def _arranged(labels: str, value: ir.Value, wanted: str, tape: Tape) -> Any:
    if labels == wanted:
        return value
    return tape.op("Transpose", value, perm=[labels.index(label) for label in wanted])
