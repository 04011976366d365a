"""Keeping every part of a model small enough for one protobuf message: that is how onnxruntime and the compiler get it.

Models above 2 GB are cut into parts like any other; a part whose own weights would be too much is cut once more. A
single weight above the limit stays in its file all the way, and what reads it on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import onnx_ir as ir

from ort_rknn_converters.graph.dataflow import Flow, reads
from ort_rknn_converters.graph.onnx_graph import constant, static_shape

__all__ = ["LIMIT", "bearable", "unbearable"]

LIMIT = 1_800_000_000
"""Bytes of weights one part may have; protobuf's own limit is 2**31 - 1 for the part with all its nodes."""


def bearable(flow: Flow, members: Sequence[int]) -> list[list[int]]:
    """Cut nodes that run together so that no piece has more weights than one message holds.

    Args:
        flow: The graph.
        members: Nodes in topological order.

    Returns:
        The pieces, in execution order: nearly always one. A single weight that is too much counts for nothing: it
        stays in its file.
    """
    pieces: list[list[int]] = [[]]
    held: set[ir.Value] = set()
    size = 0
    for index in members:
        new = [value for value in _weights(flow.nodes[index]) if value not in held]
        more = _in_message(new)
        if pieces[-1] and size + more > LIMIT:
            pieces.append([])
            held.clear()
            new = list(_weights(flow.nodes[index]))
            size, more = 0, _in_message(new)
        pieces[-1].append(index)
        held.update(new)
        size += more
    return pieces


def unbearable(node: ir.Node) -> str | None:
    """Why the compiler cannot be given a node because of the size of what it reads or makes, or ``None``."""
    for value in (*reads(node), *node.outputs):
        size = _bytes(value)
        if size > LIMIT:
            return f"{node.op_type}: {value.name} has {size / 1e9:.1f} GB, more than an ONNX file may hold"
    return None


def _weights(node: ir.Node) -> Iterator[ir.Value]:
    return (value for value in reads(node) if constant(value) is not None)


def _bytes(value: ir.Value) -> int:
    """Bytes of a value, 0 where its size is not known."""
    shape, dtype = static_shape(value), value.dtype
    return 0 if shape is None or dtype in (None, ir.DataType.STRING) else math.ceil(math.prod(shape) * dtype.itemsize)


def _in_message(values: Iterable[ir.Value]) -> int:
    return sum(size for size in map(_bytes, values) if size <= LIMIT)
