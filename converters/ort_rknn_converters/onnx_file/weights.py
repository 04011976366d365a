"""Weights apart from their model: large ones in memory, and those in files beside the model."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from math import prod
from pathlib import Path

import numpy as np

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.onnx_file.blobs import Buffer
from ort_rknn_converters.onnx_file.protobuf_wire import GRAPH_INITIALIZER, MODEL_GRAPH, TENSOR_RAW, opening
from ort_rknn_converters.onnx_file.schema import TensorProto, helper, ir, onnx
from ort_rknn_converters.util.foreign_text import shown
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.own_files import is_file

__all__ = [
    "LARGE",
    "LargeWeights",
    "is_known",
    "is_large",
    "is_same",
    "located",
    "raw_bytes",
    "size_of",
    "weights_as_inputs",
]


LARGE = 1 << 16
"""Least bytes of a weight that is kept apart from its model, or becomes an input of a copy.

Measured: a fifth of YOLOv8n's preparation, whose weights all are smaller than 1.2 MB, went into copies when it was
1 << 20. A guess: no operator's parameters, which must stay inside, are that large."""

_NO_BITS = frozenset({TensorProto.UNDEFINED, TensorProto.STRING})
_BITS = {kind.value: kind.bitwidth for kind in ir.DataType if kind.value not in _NO_BITS}


def size_of(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's data, 0 of strings; asking protobuf for the data itself copies them."""
    return (prod(map(int, tensor.dims)) * _BITS.get(tensor.data_type, 0) + 7) // 8


def is_known(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor is of an element type whose size is known, or of strings."""
    return tensor.data_type in _BITS or tensor.data_type == TensorProto.STRING


def is_large(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor is large."""
    return size_of(tensor) >= LARGE


def raw_bytes(tensor: ir.TensorProtocol) -> Buffer:
    """A tensor's data as ONNX writes them; not copied where they lie in memory or in a file of their own."""
    if tensor.dtype.bitwidth < 8:
        return tensor.tobytes()
    return np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data


def is_same(one: ir.TensorProtocol, other: ir.TensorProtocol) -> bool:
    """Whether two tensors have the same type, shape and data."""
    if one is other:
        return True
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    left, right = raw_bytes(one), raw_bytes(other)
    return all(left[at : at + LARGE] == right[at : at + LARGE] for at in range(0, len(left), LARGE))


@frozen
class LargeWeights:
    """Weights that were taken out of a model; iterated, it gives the bytes to append to the model's, one at a time.

    That works because a protobuf message that is written twice in a row is read as one: what repeats is joined.

    Attributes:
        tensors: Name and data of each.
    """

    tensors: tuple[tuple[str, ir.TensorProtocol], ...] = ()

    def __iter__(self) -> Iterator[Buffer]:
        for name, tensor in self.tensors:
            field = _opening(name, tensor)
            yield opening(len(field) + tensor.nbytes, (b"", MODEL_GRAPH)) + field
            yield raw_bytes(tensor)

    def fields(self) -> Iterator[tuple[bytes, ir.TensorProtocol]]:
        """Yields the bytes before each weight in a graph, and its data."""
        for name, tensor in self.tensors:
            yield _opening(name, tensor), tensor

    @property
    def size(self) -> int:
        """Bytes of all."""
        return sum(tensor.nbytes for _, tensor in self.tensors)

    def protos(self) -> Iterator[onnx.TensorProto]:
        """Each as an initializer."""
        for name, tensor in self.tensors:
            proto = onnx.TensorProto(name=name, data_type=tensor.dtype.value, dims=tensor.shape.numpy())
            proto.raw_data = bytes(raw_bytes(tensor))
            yield proto


def _opening(name: str, tensor: ir.TensorProtocol) -> bytes:
    head = TensorProto(name=name, data_type=tensor.dtype.value, dims=tensor.shape.numpy())
    return opening(tensor.nbytes, (b"", GRAPH_INITIALIZER), (head.SerializeToString(deterministic=True), TENSOR_RAW))


def weights_as_inputs(
    model: onnx.ModelProto, *, least: int = LARGE, types: Container[int] | None = None
) -> tuple[onnx.ModelProto, LargeWeights]:
    """Copies a model with its large weights as inputs behind its own; the weights come beside it, not copied.

    Args:
        model: Any model; left as it is.
        least: Bytes from which a weight is large.
        types: Element types of weights that may become inputs; default: all. What lies in a file of its own always may.

    Returns:
        The copy, of IR version 4 or later, and the weights. Weights that are listed as inputs stay inside:
        they are defaults.
    """
    skeleton = onnx.ModelProto(ir_version=max(4, model.ir_version), opset_import=model.opset_import)
    skeleton.functions.extend(model.functions)
    graph = skeleton.graph
    graph.name = model.graph.name
    for kind in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(graph, kind).extend(getattr(model.graph, kind))
    listed = {value.name for value in graph.input}
    weights: list[tuple[str, ir.TensorProtocol]] = []
    for tensor in model.graph.initializer:
        outside = tensor.data_location == TensorProto.EXTERNAL
        movable = types is None or tensor.data_type in types or outside
        if movable and tensor.name not in listed and size_of(tensor) >= least:
            weights.append((tensor.name, ir.serde.deserialize_tensor(tensor)))
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            graph.initializer.append(tensor)
    return skeleton, LargeWeights(tuple(weights))


def located(tensor: ir.ExternalTensor, model: Path) -> ir.ExternalTensor:
    """The tensor with the absolute path of its file, which need not exist.

    Args:
        tensor: As the model describes it.
        model: The model's file. The weights lie in its folder or, where it is a link itself, in that of the file it
            points to: so Hugging Face's cache has them, where all names are links.

    Raises:
        ModelError: They would lie elsewhere, in a place before the file's beginning, or in something that is no file.
    """
    folder = model.absolute().parent
    if not isinstance(tensor.location, str) or "\0" in tensor.location:  # bytes: they are not UTF-8
        raise ModelError(f"the weight {shown(tensor.name)} lies in {shown(tensor.location)}: no file has such a name")
    if (tensor.offset or 0) < 0 or (tensor.length or 0) < 0:
        raise ModelError(
            f"the weight {shown(tensor.name)} has the offset {tensor.offset} and the length {tensor.length}: both count"
            " from 0 up"
        )
    file = (folder / tensor.location).resolve()
    if not any(file.is_relative_to(allowed) for allowed in (folder.resolve(), model.resolve().parent)):
        raise ModelError(
            f"the weight {shown(tensor.name)} lies outside the folder of {model}, in {shown(file)}: copy it there"
        )
    if not is_file(file) and os.path.lexists(file):
        raise ModelError(f"the weight {shown(tensor.name)} lies in {shown(file)}, which is no file")
    return ir.ExternalTensor(
        file, tensor.offset, tensor.length, tensor.dtype, shape=tensor.shape, name=tensor.name or ""
    )
