"""Inputs and outputs that an ONNX file declares, read without parsing the weights or importing onnx.

A full parse would copy every weight once more; a segment of a large model has hundreds of megabytes of them.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable

from ort_rknn_converters.errors import UnknownOption
from ort_rknn_converters.onnx_file.protobuf_wire import (
    GRAPH_INITIALIZER,
    LENGTH,
    MODEL_GRAPH,
    VARINT,
    NotProtobuf,
    fields,
    opened,
)
from ort_rknn_converters.util.frozen import frozen

__all__ = ["DeclaredValue", "check_dims", "declared", "declared_inputs"]

Data = bytes | mmap.mmap

# Field numbers of onnx.proto3.
_GRAPH_INPUT, _GRAPH_OUTPUT, _TENSOR_NAME = 11, 12, 8
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM = 1, 2, 1, 2, 1
_DIM_VALUE, _DIM_PARAM = 1, 2
_LARGEST_DIM = 2**63  # what is larger is a negative number: some exporters write -1 for an unknown size


@frozen
class DeclaredValue:
    """An input that every caller must feed, or an output.

    Attributes:
        name: Its name.
        dims: A number, a symbol's name or ``None`` for each dimension; ``None`` when not even the rank is declared.
        is_tensor: Whether it is declared as one, and not as a sequence, an optional value or nothing at all.
    """

    name: str
    dims: tuple[int | str | None, ...] | None
    is_tensor: bool = True

    @property
    def is_open(self) -> bool:
        """Whether callers choose its shape."""
        return self.dims is None or not all(isinstance(dim, int) for dim in self.dims)


def declared(data: Data) -> tuple[tuple[DeclaredValue, ...], tuple[DeclaredValue, ...]]:
    """The inputs without those that have a default (initializers), and the outputs, in the model's order.

    Costs what the heads of the nodes and weights cost: both are stepped over by their length.

    Raises:
        NotProtobuf: The bytes are not a protobuf message with a graph in it.
    """
    graphs = _inner(data, 0, len(data), MODEL_GRAPH)
    if not graphs:
        raise NotProtobuf("no graph")
    inputs: list[DeclaredValue] = []
    outputs: list[DeclaredValue] = []
    defaults: set[str] = set()
    for field, kind, start, end in fields(data, *graphs[-1]):
        if kind != LENGTH:
            continue
        if field == GRAPH_INITIALIZER:
            defaults.add(_text(data, start, end, _TENSOR_NAME))
        elif field == _GRAPH_INPUT:
            inputs.append(_value(data, start, end))
        elif field == _GRAPH_OUTPUT:
            outputs.append(_value(data, start, end))
    return tuple(value for value in inputs if value.name not in defaults), tuple(outputs)


def declared_inputs(model: str | os.PathLike[str] | bytes) -> tuple[DeclaredValue, ...]:
    """The tensor inputs that every caller must feed; what is no ONNX file has none.

    Raises:
        FileNotFoundError: There is no such file.
    """
    with opened(model) as data:
        try:
            inputs, _ = declared(data)
        except NotProtobuf:
            return ()
    return tuple(value for value in inputs if value.is_tensor)


def check_dims(dims: Iterable[str], inputs: Iterable[DeclaredValue]) -> None:
    """Refuse sizes of dimensions that no input has: the model would stay as open as it is.

    Args:
        dims: Names of dimensions.
        inputs: What the model declares.

    Raises:
        UnknownOption: A dimension there is not.
    """
    there = {dim for value in inputs for dim in value.dims or () if isinstance(dim, str)}
    if unknown := sorted(set(dims) - there):
        have = f"The model's: {', '.join(sorted(there))}" if there else "The model's inputs have none that is named"
        raise UnknownOption(f"no input has a dimension called {', '.join(unknown)}. {have}")


def _inner(data: Data, start: int, end: int, wanted: int) -> list[tuple[int, int]]:
    return [(low, high) for field, kind, low, high in fields(data, start, end) if (field, kind) == (wanted, LENGTH)]


def _text(data: Data, start: int, end: int, wanted: int) -> str:
    for low, high in _inner(data, start, end, wanted):
        return bytes(data[low:high]).decode(errors="replace")
    return ""


def _value(data: Data, start: int, end: int) -> DeclaredValue:
    name = _text(data, start, end, _VALUE_NAME)
    tensors = [tensor for kind in _inner(data, start, end, _VALUE_TYPE) for tensor in _inner(data, *kind, _TYPE_TENSOR)]
    shapes = _inner(data, *tensors[0], _TENSOR_SHAPE) if tensors else []
    if not shapes:
        return DeclaredValue(name, None, bool(tensors))
    return DeclaredValue(name, tuple(_dim(data, *dim) for dim in _inner(data, *shapes[0], _SHAPE_DIM)))


def _dim(data: Data, start: int, end: int) -> int | str | None:
    for field, kind, low, high in fields(data, start, end):
        if (field, kind) == (_DIM_VALUE, VARINT):
            return low if low < _LARGEST_DIM else None
        if (field, kind) == (_DIM_PARAM, LENGTH):
            return bytes(data[low:high]).decode(errors="replace") or None
    return None
