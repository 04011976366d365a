"""Large weights kept apart from the model they belong to, so that a model can be written without copying them.

A protobuf message that is written twice in a row is read as one: what repeats is joined. So a model's file may be the
model without its large weights, followed by a small message for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from ort_rknn_converters.frozen import frozen

__all__ = ["HEAVY", "Heavy", "is_heavy", "pieces", "raw_size", "serialized", "size_of"]

HEAVY = 1 << 20
"""Bytes from which a weight is worth the trouble. A guess: smaller ones are copied in microseconds."""

_ITEM = {
    kind: helper.tensor_dtype_to_np_dtype(kind).itemsize
    for kind in helper.get_all_tensor_dtypes()
    if kind != TensorProto.STRING
}
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW = b"\x3a", b"\x2a", b"\x4a"  # of onnx.proto3: (field << 3) + 2


def raw_size(tensor: onnx.TensorProto) -> int:
    """Bytes of raw data in an initializer, 0 without any; asking protobuf for the data itself copies them."""
    return prod(tensor.dims) * _ITEM.get(tensor.data_type, 1) if tensor.HasField("raw_data") else 0


def is_heavy(tensor: onnx.TensorProto) -> bool:
    """Whether an initializer is large and holds its data as raw bytes."""
    return raw_size(tensor) >= HEAVY


def pieces(name: str, data_type: int, dims: Sequence[int], data: bytes) -> tuple[bytes, bytes]:
    """What to append to a model's bytes for one initializer more: a few bytes, and the data as they are."""
    head = bytes(TensorProto(name=name, data_type=data_type, dims=dims).SerializeToString(deterministic=True))
    head += _TENSOR_RAW + _varint(len(data))
    tensor = _GRAPH_INITIALIZER + _varint(len(head) + len(data)) + head
    return _MODEL_GRAPH + _varint(len(tensor) + len(data)) + tensor, data


def _varint(number: int) -> bytes:
    """A length as protobuf writes it: seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def serialized(model: onnx.ModelProto) -> Iterator[bytes]:
    """The model's bytes, its large weights one by one; they are taken out of the model."""
    weights = list(model.graph.initializer)
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensor for tensor in weights if not is_heavy(tensor))
    yield model.SerializeToString()
    for tensor in weights:
        if is_heavy(tensor):
            yield from pieces(tensor.name, tensor.data_type, tensor.dims, tensor.raw_data)


def size_of(model: onnx.ModelProto) -> int:
    """Bytes of a model, about: its exact size costs a copy of it."""
    payloads = (a.s for node in model.graph.node if node.op_type == "EPContext" for a in node.attribute)
    return sum(map(raw_size, model.graph.initializer)) + sum(map(len, payloads))


@frozen
class Heavy:
    """Weights that were taken out of a model; iterated, it gives the bytes to append to the model's, one at a time.

    Attributes:
        tensors: Name and data of each.
    """

    tensors: tuple[tuple[str, ir.TensorProtocol], ...] = ()

    def __iter__(self) -> Iterator[bytes]:
        for name, tensor in self.tensors:
            yield from pieces(name, tensor.dtype.value, tensor.shape.numpy(), tensor.tobytes())

    @property
    def size(self) -> int:
        """Bytes of all."""
        return sum(tensor.nbytes for _, tensor in self.tensors)

    def protos(self) -> Iterator[onnx.TensorProto]:
        """Each as an initializer."""
        for name, tensor in self.tensors:
            proto = onnx.TensorProto()
            ir.serde.serialize_tensor_into(proto, tensor)
            proto.name = name
            yield proto
