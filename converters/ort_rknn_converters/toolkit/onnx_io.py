"""Names, dtypes and dims of an ONNX model's inputs and outputs, read from its bytes without touching the weights.

A full parse would copy every weight once more; a segment of a large model has hundreds of megabytes of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.frozen import frozen

__all__ = ["GraphIO", "ValueInfo", "read_io"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Field numbers of onnx.proto3.
MODEL_GRAPH = 7
GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 5, 11, 12
TENSOR_NAME = 8
VALUE_NAME, VALUE_TYPE = 1, 2
TYPE_TENSOR = 1
TENSOR_TYPE_ELEM, TENSOR_TYPE_SHAPE = 1, 2
SHAPE_DIM = 1
DIM_VALUE = 1


@frozen
class ValueInfo:
    """One graph input or output: ``dtype`` is ONNX's number (0: unknown), ``dims`` is None when unknown.

    A dimension without a number is None.
    """

    name: str
    dtype: int
    dims: tuple[int | None, ...] | None


@frozen
class GraphIO:
    """What goes in (initializers not counted) and what comes out, in the model's order."""

    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield (field number, value if it is a number, bytes if it has some) for each field of one message."""
    at, nothing = 0, data[:0]
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value, nothing
        elif kind == BYTES:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("a field that ends behind its message")
            yield key >> 3, 0, data[at : at + length]
            at += length
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")


def _dims(shape: memoryview) -> tuple[int | None, ...]:
    dims: list[int | None] = []
    for field, _, dim in _fields(shape):
        if field == SHAPE_DIM:
            values = [number for inner, number, _ in _fields(dim) if inner == DIM_VALUE]
            dims.append(values[-1] if values else None)
    return tuple(dims)


def _value_info(data: memoryview) -> ValueInfo:
    name, dtype, dims = "", 0, None
    for field, _, content in _fields(data):
        if field == VALUE_NAME:
            name = bytes(content).decode("utf-8")
        elif field == VALUE_TYPE:
            for kind, _, tensor in _fields(content):
                if kind == TYPE_TENSOR:
                    for inner, number, message in _fields(tensor):
                        if inner == TENSOR_TYPE_ELEM:
                            dtype = number
                        elif inner == TENSOR_TYPE_SHAPE:
                            dims = _dims(message)
    return ValueInfo(name, dtype, dims)


def read_io(model: bytes) -> GraphIO:
    """Read the graph's inputs and outputs from a serialized ``ModelProto``.

    Raises:
        ModelError: The bytes are not a protobuf message with a graph in it.
    """
    try:
        graphs = [content for field, _, content in _fields(memoryview(model)) if field == MODEL_GRAPH]
        inputs, outputs, constants = [], [], set()
        for field, _, content in _fields(graphs[-1]):
            if field == GRAPH_INPUT:
                inputs.append(_value_info(content))
            elif field == GRAPH_OUTPUT:
                outputs.append(_value_info(content))
            elif field == GRAPH_INITIALIZER:
                constants |= {
                    bytes(name).decode("utf-8") for inner, _, name in _fields(content) if inner == TENSOR_NAME
                }
    except (IndexError, ValueError) as error:
        raise ModelError(f"not an ONNX model: {error}") from error
    return GraphIO(tuple(value for value in inputs if value.name not in constants), tuple(outputs))
