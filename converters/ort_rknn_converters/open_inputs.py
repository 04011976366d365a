"""Which inputs of a model have shapes that it leaves open, read without parsing the model or importing onnx."""

from __future__ import annotations

import mmap
import os

from ort_rknn_converters.frozen import frozen
from ort_rknn_converters.wire import LENGTH, VARINT, NotProtobuf, fields, opened

__all__ = ["DeclaredInput", "declared_inputs"]

Data = bytes | mmap.mmap

_MODEL_GRAPH, _GRAPH_INITIALIZER, _GRAPH_INPUT, _TENSOR_NAME = 7, 5, 11, 8
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM = 1, 2, 1, 2, 1
_DIM_VALUE, _DIM_PARAM = 1, 2
_LARGEST_DIM = 2**63  # what is larger is a negative number: some exporters write -1 for an unknown size


@frozen
class DeclaredInput:
    """A tensor input that every caller must feed.

    Attributes:
        name: Its name.
        shape: A number, a symbol's name or ``None`` for each dimension; ``None`` when not even the rank is declared.
    """

    name: str
    shape: tuple[int | str | None, ...] | None

    @property
    def is_open(self) -> bool:
        """Whether callers choose its shape."""
        return self.shape is None or not all(isinstance(dim, int) for dim in self.shape)


def declared_inputs(model: str | os.PathLike[str] | bytes) -> tuple[DeclaredInput, ...]:
    """The tensor inputs of an ONNX model without those that have a default (initializers).

    Costs what the heads of its nodes and weights cost: both are stepped over by their length. What is no ONNX file has
    no inputs.

    Raises:
        FileNotFoundError: There is no such file.
    """
    found: list[DeclaredInput] = []
    defaults: set[str] = set()
    with opened(model) as data:
        try:
            for number, kind, start, end in fields(data, 0, len(data)):
                if number != _MODEL_GRAPH or kind != LENGTH:
                    continue
                for field, how, low, high in fields(data, start, end):
                    if how != LENGTH:
                        continue
                    if field == _GRAPH_INITIALIZER:
                        defaults.add(_text(data, low, high, _TENSOR_NAME))
                    elif field == _GRAPH_INPUT:
                        found.extend(_input(data, low, high))
        except NotProtobuf:
            return ()
    return tuple(value for value in found if value.name not in defaults)


def _inner(data: Data, start: int, end: int, wanted: int) -> list[tuple[int, int]]:
    return [(low, high) for field, kind, low, high in fields(data, start, end) if (field, kind) == (wanted, LENGTH)]


def _text(data: Data, start: int, end: int, wanted: int) -> str:
    for low, high in _inner(data, start, end, wanted):
        return bytes(data[low:high]).decode(errors="replace")
    return ""


def _input(data: Data, start: int, end: int) -> list[DeclaredInput]:
    """The input, or nothing for what is no tensor (sequences, optional values ...)."""
    tensors = [tensor for kind in _inner(data, start, end, _VALUE_TYPE) for tensor in _inner(data, *kind, _TYPE_TENSOR)]
    if not tensors:
        return []
    shapes = _inner(data, *tensors[0], _TENSOR_SHAPE)
    dims = [_dim(data, *dim) for dim in _inner(data, *shapes[0], _SHAPE_DIM)] if shapes else None
    return [DeclaredInput(_text(data, start, end, _VALUE_NAME), None if dims is None else tuple(dims))]


def _dim(data: Data, start: int, end: int) -> int | str | None:
    for field, kind, low, high in fields(data, start, end):
        if (field, kind) == (_DIM_VALUE, VARINT):
            return low if low < _LARGEST_DIM else None
        if (field, kind) == (_DIM_PARAM, LENGTH):
            return bytes(data[low:high]).decode(errors="replace") or None
    return None
