"""Validates a loaded model: every value has a producer, nodes are sorted, external weight files are complete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph.onnx_graph import in_files, walk
from ort_rknn_converters.util.own_files import is_file

__all__ = ["validate_and_sort"]


def validate_and_sort(model: ir.Model) -> None:
    """Brings the nodes into an order in which each comes after what it reads, in place, as ONNX Runtime does.

    Raises:
        ModelError: The graph has a cycle, reads or gives a value that nothing makes, has weights beyond the end of
            their file, or an equation that nobody can read.
    """
    for _, tensor in in_files(model):
        path, end = Path(tensor.path), (tensor.offset or 0) + (tensor.length or tensor.nbytes)
        if is_file(path) and path.stat().st_size < end:
            raise ModelError(f"{path} is cut off: {tensor.name} ends at byte {end} of {path.stat().st_size}")
    for node in walk(model.graph):
        if node.op_type == "Einsum" and "...." in node.attributes.get_string("equation", ""):
            raise ModelError(  # ONNX's inference, and ONNX Runtime, would look for its end for ever
                f"the model is invalid: Einsum {node.name} has four dots in a row in its equation"
            )
    for reader, value in _read(model.graph):
        if value.producer() is None and not value.is_graph_input() and not value.is_initializer():
            raise ModelError(f"the model is invalid: nothing makes {value.name!r}, which {reader}")
    if not _in_order(model.graph):
        try:
            model.graph.sort()
        except ValueError as error:
            raise ModelError("the model is invalid: its graph has a cycle") from error


def _read(graph: ir.Graph) -> Iterator[tuple[str, ir.Value]]:
    for node in walk(graph):
        for value in node.inputs:
            if value is not None:
                yield f"{node.op_type} {node.name} reads" if node.name else f"{node.op_type} reads", value
    for value in graph.outputs:
        yield "is an output", value


def _in_order(graph: ir.Graph) -> bool:
    seen: set[ir.Node] = set()
    for node in walk(graph):
        makers = (value.producer() for value in node.inputs if value is not None)
        if any(maker is not None and maker.graph is node.graph and maker not in seen for maker in makers):
            return False
        seen.add(node)
    return True
