"""Large weights kept apart from the model they belong to, so that a model can be written without copying them.

A protobuf message that is written twice in a row is read as one: what repeats is joined. So a model's file may be the
model without its large weights, followed by a small message for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from ort_rknn_converters.frozen import frozen

__all__ = ["HEAVY", "Heavy", "chunk", "is_heavy", "serialized", "size_of"]

HEAVY = 1 << 20
"""Bytes from which a weight is worth the trouble. A guess: smaller ones are copied in microseconds."""


def is_heavy(tensor: onnx.TensorProto) -> bool:
    """Whether an initializer is large and holds its data as raw bytes."""
    return len(tensor.raw_data) >= HEAVY


def chunk(tensor: onnx.TensorProto) -> bytes:
    """What to append to a model's bytes for one initializer more."""
    return bytes(onnx.ModelProto(graph=onnx.GraphProto(initializer=[tensor])).SerializeToString())


def serialized(model: onnx.ModelProto) -> Iterator[bytes]:
    """The model's bytes, its large weights one by one; they are taken out of the model."""
    weights = list(model.graph.initializer)
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensor for tensor in weights if not is_heavy(tensor))
    yield model.SerializeToString()
    for tensor in weights:
        if is_heavy(tensor):
            yield chunk(tensor)


def size_of(model: onnx.ModelProto) -> int:
    """Bytes of a model, about: its exact size costs a copy of it."""
    payloads = (a.s for node in model.graph.node if node.op_type == "EPContext" for a in node.attribute)
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer) + sum(map(len, payloads))


@frozen
class Heavy:
    """Weights that were taken out of a model; iterated, it gives the bytes to append to the model's, one at a time.

    Attributes:
        tensors: Name and data of each.
    """

    tensors: tuple[tuple[str, ir.TensorProtocol], ...] = ()

    def __iter__(self) -> Iterator[bytes]:
        for tensor in self.protos():
            yield chunk(tensor)

    @property
    def size(self) -> int:
        """Bytes of all."""
        return sum(tensor.nbytes for _, tensor in self.tensors)

    def protos(self) -> Iterator[onnx.TensorProto]:
        """Each as an initializer."""
        for name, tensor in self.tensors:
            proto = onnx.TensorProto()
            proto.CopyFrom(ir.serde.serialize_tensor(tensor))
            proto.name = name
            yield proto
