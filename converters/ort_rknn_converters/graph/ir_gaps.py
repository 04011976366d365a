"""Carries through onnx-ir what it cannot express: maps as a marked tensor type, sparse constants as dense ones."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.onnx_file.weights import located, size_of
from ort_rknn_converters.util.foreign_text import shown

__all__ = ["dense", "hide_maps", "is_hidden_map", "show_maps", "type_string"]


_MARK = "ort_rknn.map:"

_ALWAYS_DENSE, _MOST_TIMES = 1 << 26, 64
"""Bytes that sparse weights may always have when they are made dense; and for more, how many times what the file
holds. Guesses: a layer with one weight in fifty is sparse indeed."""


def hide_maps(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto``, or a copy in which each map type is a tensor type whose denotation holds the real one."""
    if not any(_has_map(info.type) for info in _infos(proto.graph)):
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for info in _infos(copy.graph):
        if _has_map(info.type):
            mark = _MARK + base64.b64encode(info.type.SerializeToString()).decode()
            info.type.Clear()
            info.type.tensor_type.elem_type = onnx.TensorProto.UNDEFINED
            info.type.denotation = mark
    return copy


def show_maps(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Undo :func:`hide_maps`, in place."""
    for info in _infos(proto.graph):
        mark = info.type.denotation
        if mark.startswith(_MARK):
            info.type.ParseFromString(base64.b64decode(mark[len(_MARK) :]))
    return proto


def is_hidden_map(kind: ir.TypeProtocol | None) -> bool:
    """Whether ``kind`` stands for a map (or a sequence of maps)."""
    return kind is not None and (kind.denotation or "").startswith(_MARK)


def type_string(kind: ir.TypeProtocol | ir.DataType | None) -> str:
    """The type as onnxruntime spells it, e.g. ``tensor(float)``, ``seq(tensor(int64))``; ``""`` for an unknown one."""
    if kind is None:
        return ""
    if isinstance(kind, ir.DataType):
        return f"tensor({kind.name.lower()})"
    if is_hidden_map(kind):
        assert kind.denotation is not None
        proto = onnx.TypeProto.FromString(base64.b64decode(kind.denotation[len(_MARK) :]))
        return _proto_string(proto)
    if isinstance(kind, ir.SequenceType):
        return f"seq({type_string(kind.elem_type)})"
    if isinstance(kind, ir.OptionalType):
        return f"optional({type_string(kind.elem_type)})"
    if isinstance(kind, ir.SparseTensorType):
        return f"sparse_{type_string(kind.dtype)}"
    return type_string(kind.dtype)


def _proto_string(proto: onnx.TypeProto) -> str:
    kind = proto.WhichOneof("value")
    if kind == "map_type":
        key = type_string(ir.DataType(proto.map_type.key_type))[len("tensor(") : -1]
        return f"map({key},{_proto_string(proto.map_type.value_type)})"
    if kind == "sequence_type":
        return f"seq({_proto_string(proto.sequence_type.elem_type)})"
    if kind == "optional_type":
        return f"optional({_proto_string(proto.optional_type.elem_type)})"
    return type_string(ir.DataType(proto.tensor_type.elem_type))


def _infos(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.input
    yield from graph.output
    yield from graph.value_info
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _infos(attribute.g)
            for inner in attribute.graphs:
                yield from _infos(inner)


def _has_map(proto: onnx.TypeProto) -> bool:
    kind = proto.WhichOneof("value")
    if kind == "map_type":
        return True
    if kind in ("sequence_type", "optional_type"):
        return _has_map(getattr(proto, kind).elem_type)
    return False


def dense(proto: onnx.ModelProto, folder: str) -> onnx.ModelProto:
    """``proto``, or a copy with its sparse initializers and ``Constant`` nodes made dense.

    Args:
        proto: A model.
        folder: Where its external data lies.

    Raises:
        ModelError: They would become too large: a kilobyte can say that it stands for gigabytes of zeros.
    """
    graphs = list(_graphs(proto))
    if not any(graph.sparse_initializer or any(map(_sparse_attribute, graph.node)) for graph in graphs):
        return proto
    _count_dense(graphs)
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for graph in _graphs(copy):
        for sparse in graph.sparse_initializer:
            graph.initializer.append(_whole(sparse, folder))
        del graph.sparse_initializer[:]
        for node in graph.node:
            attribute = _sparse_attribute(node)
            if attribute is not None:
                tensor = _whole(attribute.sparse_tensor, folder)
                del node.attribute[:]
                node.attribute.append(onnx.helper.make_attribute("value", tensor))
    return copy


def _count_dense(graphs: list[onnx.GraphProto]) -> None:
    dense_bytes = stored = 0
    for graph in graphs:
        attributes = filter(None, map(_sparse_attribute, graph.node))
        for sparse in (*graph.sparse_initializer, *(attribute.sparse_tensor for attribute in attributes)):
            whole = onnx.TensorProto(dims=sparse.dims, data_type=sparse.values.data_type)
            if any(dim < 0 for dim in sparse.dims):
                raise ModelError(f"the sparse weight {shown(sparse.values.name)} has a negative dimension")
            dense_bytes += size_of(whole)
            stored += size_of(sparse.values) + size_of(sparse.indices)
    if dense_bytes > max(_ALWAYS_DENSE, _MOST_TIMES * stored):
        raise ModelError(
            f"its sparse weights have {stored:,} bytes and would take {dense_bytes:,}: so many zeros are not converted"
        )


def _whole(sparse: onnx.SparseTensorProto, folder: str) -> onnx.TensorProto:
    values, indices = _array(sparse.values, folder), _array(sparse.indices, folder)
    full = np.zeros(tuple(sparse.dims), dtype=values.dtype)
    full[np.unravel_index(indices, full.shape) if indices.ndim == 1 else tuple(indices.T)] = values
    return numpy_helper.from_array(full, name=sparse.values.name)


def _array(part: onnx.TensorProto, folder: str) -> Any:
    if part.data_location == onnx.TensorProto.EXTERNAL:
        tensor = ir.serde.deserialize_tensor(part)
        assert isinstance(tensor, ir.ExternalTensor)
        return located(tensor, Path(folder) / "model.onnx").numpy()
    return numpy_helper.to_array(part)


def _sparse_attribute(node: onnx.NodeProto) -> onnx.AttributeProto | None:
    if node.op_type != "Constant":
        return None
    return next((each for each in node.attribute if each.name == "sparse_value"), None)


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    waiting = [proto.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)
