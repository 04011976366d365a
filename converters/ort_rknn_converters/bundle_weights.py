"""Weights stored once: tensors of one model replaced by references to equal tensors of another, and put back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import onnx
from onnx import TensorProto

from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.tensor_types import raw_constant

__all__ = ["Weights", "restore", "share"]

LOCATION = "ort_rknn.shared"
"""``location`` of a tensor that is a reference; ``key`` is the other tensor's name."""

_SMALL = 256
"""Bytes up to which a tensor is not worth a reference. A guess; a reference takes about 60."""


class Weights:
    """The tensors of a model that others may refer to, by content."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._names = {_digest(t): t.name for t in model.graph.initializer if len(t.raw_data) > _SMALL}

    def name_of(self, tensor: TensorProto) -> str | None:
        """The tensor of equal type, shape and content."""
        return self._names.get(_digest(tensor)) if len(tensor.raw_data) > _SMALL else None


def share(model: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    """A copy of ``model`` in which everything that ``weights`` has is a reference.

    Weights may not lie in other files.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in _tensors(copy):
        plain = (
            tensor if tensor.HasField("raw_data") or tensor.data_type == TensorProto.STRING else raw_constant(tensor)
        )
        found = weights.name_of(plain)
        if found is not None:
            name, doc = tensor.name, tensor.doc_string
            kind, dims = tensor.data_type, list(tensor.dims)
            tensor.Clear()
            tensor.name, tensor.data_type, tensor.data_location = name, kind, TensorProto.EXTERNAL
            tensor.dims.extend(dims)
            if doc:
                tensor.doc_string = doc
            tensor.external_data.add(key="location", value=LOCATION)
            tensor.external_data.add(key="key", value=found)
    return copy


def restore(model: onnx.ModelProto, weights: Mapping[str, TensorProto]) -> onnx.ModelProto:
    """Put the data back where ``model`` refers to ``weights``; changes and returns ``model``.

    Raises:
        CompiledModelError: A tensor that is referred to is not there.
    """
    for tensor in _tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries.get("location") != LOCATION:
            continue
        found = weights.get(entries.get("key", ""))
        if found is None or found.data_type != tensor.data_type or found.dims != tensor.dims:
            raise CompiledModelError(
                f"the weight {tensor.name} is not in the file. Convert the original ONNX model again"
            )
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = found.raw_data
    return model


def _digest(tensor: TensorProto) -> bytes:
    head = f"{tensor.data_type} {list(tensor.dims)} ".encode()
    return hashlib.sha256(head + tensor.raw_data).digest()


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    yield from _of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node)


def _of_graph(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: onnx.NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("g"):
            yield from _of_graph(attribute.g)
        for graph in attribute.graphs:
            yield from _of_graph(graph)
