"""A copy of a model without its large weights, which are inputs of the copy: everything else in a model is small."""

from __future__ import annotations

from collections.abc import Container

import onnx
from onnx import TensorProto, helper

from ort_rknn_converters.onnx_file.weights_heavy import size_of

__all__ = ["PARAMETER", "lightened"]

PARAMETER = 1 << 16
"""Bytes from which a weight may be an input. A guess: no operator's parameters, which must stay, are that large."""


def lightened(
    model: onnx.ModelProto, *, least: int = PARAMETER, types: Container[int] | None = None
) -> tuple[onnx.ModelProto, list[TensorProto]]:
    """The model with its large weights as inputs behind its own, and these weights.

    Args:
        model: Any model; left as it is.
        least: Bytes from which a weight is large.
        types: Element types of weights that may become inputs; default: all. What lies in a file of its own always may.

    Returns:
        The copy, of IR version 4 or later, and the model's own tensors. Weights that are listed as inputs stay inside:
        they are defaults.
    """
    light = onnx.ModelProto(ir_version=max(4, model.ir_version), opset_import=model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    graph.name = model.graph.name
    for kind in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(graph, kind).extend(getattr(model.graph, kind))
    listed = {value.name for value in graph.input}
    weights = []
    for tensor in model.graph.initializer:
        outside = tensor.data_location == TensorProto.EXTERNAL
        movable = types is None or tensor.data_type in types or outside
        if movable and tensor.name not in listed and size_of(tensor) >= least:
            weights.append(tensor)
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            graph.initializer.append(tensor)
    return light, weights
