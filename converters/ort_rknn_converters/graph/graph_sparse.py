"""Writes sparse constants out in full: onnx-ir knows only dense ones, and no compiler of ours profits from them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import external_data_helper, numpy_helper

__all__ = ["dense"]


def dense(proto: onnx.ModelProto, folder: str) -> onnx.ModelProto:
    """``proto``, or a copy with its sparse initializers and ``Constant`` nodes made dense.

    Args:
        proto: A model.
        folder: Where its external data lies.
    """
    graphs = list(_graphs(proto))
    if not any(graph.sparse_initializer or any(map(_sparse_attribute, graph.node)) for graph in graphs):
        return proto
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


def _whole(sparse: onnx.SparseTensorProto, folder: str) -> onnx.TensorProto:
    for part in (sparse.values, sparse.indices):
        if part.data_location == onnx.TensorProto.EXTERNAL:
            external_data_helper.load_external_data_for_tensor(part, folder)
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    full = np.zeros(tuple(sparse.dims), dtype=values.dtype)
    full[np.unravel_index(indices, full.shape) if indices.ndim == 1 else tuple(indices.T)] = values
    return numpy_helper.from_array(full, name=sparse.values.name)


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
