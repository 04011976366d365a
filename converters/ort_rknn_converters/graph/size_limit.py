"""Splits segments and CPU steps whose weights exceed protobuf's 2 GB message limit.

Models above 2 GB are cut into parts like any other; a part whose own weights would be too much is cut once more. A
single weight above the limit stays in its file all the way, and what reads it on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import onnx_ir as ir

from ort_rknn_converters.graph.dataflow import DataFlow, reads
from ort_rknn_converters.graph.onnx_graph import constant, dims
from ort_rknn_converters.onnx_file.protobuf_wire import CONTENT_LIMIT

__all__ = ["oversized_reason", "split_oversized"]


def split_oversized(flow: DataFlow, members: Sequence[int]) -> list[list[int]]:
    """Cuts nodes that run together so that no part has more weights than one message holds.

    Args:
        flow: The graph.
        members: Nodes in topological order.

    Returns:
        The parts, in execution order: nearly always one. A single weight that is too much counts for nothing: it
        stays in its file.
    """
    parts: list[list[int]] = [[]]
    held: set[ir.Value] = set()
    size = 0
    for index in members:
        new = [value for value in _weights(flow.nodes[index]) if value not in held]
        more = _in_message(new)
        if parts[-1] and size + more > CONTENT_LIMIT:
            parts.append([])
            held.clear()
            new = list(_weights(flow.nodes[index]))
            size, more = 0, _in_message(new)
        parts[-1].append(index)
        held.update(new)
        size += more
    return parts


def oversized_reason(node: ir.Node) -> str | None:
    """Reason why a node's inputs or outputs are too large for the compiler, or ``None``."""
    for value in (*reads(node), *node.outputs):
        size = _bytes(value)
        if size > CONTENT_LIMIT:
            return f"{node.op_type}: {value.name} has {size / 1e9:.1f} GB, more than an ONNX file may hold"
    return None


def _weights(node: ir.Node) -> Iterator[ir.Value]:
    return (value for value in reads(node) if constant(value) is not None)


def _bytes(value: ir.Value) -> int:
    """Bytes of a value, 0 where its size is not known."""
    shape, dtype = dims(value), value.dtype  # not static_shape, which knows no tensor of more than 2^59 elements
    if shape is None or dtype in (None, ir.DataType.STRING):
        return 0
    sizes = [dim for dim in shape if isinstance(dim, int)]
    return math.ceil(math.prod(sizes) * dtype.itemsize) if len(sizes) == len(shape) else 0


def _in_message(values: Iterable[ir.Value]) -> int:
    return sum(size for size in map(_bytes, values) if size <= CONTENT_LIMIT)
