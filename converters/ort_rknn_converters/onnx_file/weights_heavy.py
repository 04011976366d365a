"""Large weights kept apart from the model they belong to: it can be passed on and written without copying them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto

from ort_rknn_converters.onnx_file.blobs import Buffer
from ort_rknn_converters.onnx_file.protobuf_wire import GRAPH_INITIALIZER, MODEL_GRAPH, TENSOR_RAW, opening
from ort_rknn_converters.util.frozen import frozen

__all__ = ["HEAVY", "Heavy", "is_heavy", "is_same", "raw", "size_of"]

HEAVY = 1 << 16
"""Bytes from which a weight is worth the trouble (measured: a fifth of YOLOv8n's preparation, whose weights all are
smaller than 1.2 MB, went into copies when it was 1 << 20)."""

_NO_BITS = frozenset({TensorProto.UNDEFINED, TensorProto.STRING})
_BITS = {kind.value: kind.bitwidth for kind in ir.DataType if kind.value not in _NO_BITS}


def size_of(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's data, 0 of strings; asking protobuf for the data itself copies them."""
    return (prod(map(int, tensor.dims)) * _BITS.get(tensor.data_type, 0) + 7) // 8


def is_heavy(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor is large."""
    return size_of(tensor) >= HEAVY


def raw(tensor: ir.TensorProtocol) -> Buffer:
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
    left, right = raw(one), raw(other)
    return all(left[at : at + HEAVY] == right[at : at + HEAVY] for at in range(0, len(left), HEAVY))


@frozen
class Heavy:
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
            yield raw(tensor)

    def fields(self) -> Iterator[tuple[bytes, ir.TensorProtocol]]:
        """What stands before each in a graph's bytes, and its data."""
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
            proto.raw_data = bytes(raw(tensor))
            yield proto


def _opening(name: str, tensor: ir.TensorProtocol) -> bytes:
    head = TensorProto(name=name, data_type=tensor.dtype.value, dims=tensor.shape.numpy())
    return opening(tensor.nbytes, (b"", GRAPH_INITIALIZER), (head.SerializeToString(deterministic=True), TENSOR_RAW))
