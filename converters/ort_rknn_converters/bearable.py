"""Keeping every part of a model small enough for one protobuf message: that is how onnxruntime and the compiler get it.

Models above 2 GB are cut into parts like any other; a part whose own weights would be too much is cut once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx_ir as ir

from ort_rknn_converters.dataflow import Flow, reads
from ort_rknn_converters.graph import constant

__all__ = ["LIMIT", "bearable"]

LIMIT = 1_800_000_000
"""Bytes of weights one part may have; protobuf's own limit is 2**31 - 1 for the part with all its nodes."""


def bearable(flow: Flow, members: Sequence[int]) -> list[list[int]]:
    """Cut nodes that run together so that no piece has more weights than one message holds.

    Args:
        flow: The graph.
        members: Nodes in topological order.

    Returns:
        The pieces, in execution order: nearly always one. A node whose own weights are too much is a piece by itself.
    """
    pieces: list[list[int]] = [[]]
    held: set[ir.Value] = set()
    size = 0
    for index in members:
        new = [value for value in _weights(flow.nodes[index]) if value not in held]
        more = sum(_bytes(new))
        if pieces[-1] and size + more > LIMIT:
            pieces.append([])
            held.clear()
            new = list(_weights(flow.nodes[index]))
            size, more = 0, sum(_bytes(new))
        pieces[-1].append(index)
        held.update(new)
        size += more
    return pieces


def _weights(node: ir.Node) -> Iterator[ir.Value]:
    return (value for value in reads(node) if constant(value) is not None)


def _bytes(values: Iterable[ir.Value]) -> Iterator[int]:
    for value in values:
        tensor = constant(value)
        assert tensor is not None
        yield 0 if tensor.dtype == ir.DataType.STRING else tensor.nbytes
