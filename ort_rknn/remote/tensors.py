"""Tensors as the Open Inference Protocol writes them: names of types, and raw bytes in little-endian C order.

Strings (``BYTES``) are a length of four bytes and the characters, one after the other. Sizes are checked before memory
is taken for them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from ort_rknn.ort_conventions import DTYPES

__all__ = [
    "DATATYPES",
    "ITEM_SIZES",
    "STRINGS",
    "STRING_TYPE",
    "TensorError",
    "datatype_of",
    "datatype_of_array",
    "decode",
    "element_count",
    "encode",
    "ort_type_of",
    "text_of",
]

_NAMES = {
    "bool": "BOOL",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    **{name: name.upper() for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
}
STRINGS, STRING_TYPE = "BYTES", "tensor(string)"
DATATYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(dtype).newbyteorder("<") if np.dtype(dtype).itemsize > 1 else np.dtype(dtype)
    for dtype, name in _NAMES.items()
}
"""The protocol's names of types that have a fixed size, and numpy's."""

ITEM_SIZES = {name: dtype.itemsize for name, dtype in DATATYPES.items()}
_OF_DTYPE = {np.dtype(dtype): name for dtype, name in _NAMES.items()}  # of every call: a type's name takes long
_LENGTH = struct.Struct("<I")
_OF_TYPE = {**{text: _NAMES[dtype] for text, dtype in DTYPES.items()}, STRING_TYPE: STRINGS}
_MOST_ELEMENTS = 2**40  # what a shape may claim; bytes are compared with it before anything is made


class TensorError(ValueError):
    """Raised when bytes, type and shape of a tensor do not go together; says which and why."""


def datatype_of(ort_type: str) -> str | None:
    """The protocol's name for one of onnxruntime's type strings; ``None`` where it has none (sequences, bfloat16).

    An optional tensor is a tensor that may be left out.
    """
    if ort_type.startswith("optional("):
        ort_type = ort_type[len("optional(") : -1]
    return _OF_TYPE.get(ort_type)


def datatype_of_array(name: str, array: np.ndarray[Any, Any]) -> str:
    """The protocol's name for an array's own type.

    Raises:
        TensorError: It has none.
    """
    if array.dtype.kind in "OUS":
        return STRINGS
    datatype = _OF_DTYPE.get(array.dtype) or _NAMES.get(array.dtype.newbyteorder("=").name)
    if datatype is None:
        raise TensorError(f"tensor {name!r}: there is no way to send the type {array.dtype}")
    return datatype


def ort_type_of(datatype: str) -> str | None:
    """One of onnxruntime's type strings for the protocol's name; ``None`` for an unknown one."""
    return next((text for text, name in _OF_TYPE.items() if name == datatype), None)


def element_count(name: str, shape: Sequence[int]) -> int:
    """The number of elements of a shape.

    Raises:
        TensorError: A dimension is negative, or there are absurdly many elements.
    """
    if shape and min(shape) < 0:
        raise TensorError(f"tensor {name!r}: the shape {list(shape)} has a negative dimension")
    count = math.prod(shape)
    if count > _MOST_ELEMENTS or len(shape) > 64:  # numpy's own limit of dimensions
        raise TensorError(f"tensor {name!r}: the shape {list(shape)[:8]} is too large")
    return count


def decode(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> np.ndarray[Any, Any]:
    """The array in raw bytes; it lies in them where its type may lie there, and cannot be written.

    Raises:
        TensorError: The type is unknown, or the bytes are too many or too few.
    """
    count = element_count(name, shape)
    if datatype == STRINGS:
        return _strings(name, count, raw).reshape(shape)
    dtype = DATATYPES.get(datatype)
    if dtype is None:
        raise TensorError(
            f"tensor {name!r}: there is no datatype {datatype!r}; there are {', '.join(DATATYPES)}, BYTES"
        )
    if count * dtype.itemsize != len(raw):
        raise TensorError(
            f"tensor {name!r}: {datatype} of shape {list(shape)} is {count * dtype.itemsize} bytes, not {len(raw)}"
        )
    array = np.frombuffer(raw, dtype).reshape(shape)
    return array if array.flags.aligned else array.copy()  # behind a message's head, numbers lie anywhere


def encode(array: np.ndarray[Any, Any], datatype: str) -> bytes:
    """The raw bytes of an array whose type is the protocol's ``datatype``."""
    if datatype == STRINGS:
        parts: list[bytes] = []
        for value in array.reshape(-1):
            text = value if isinstance(value, bytes) else str(value).encode()
            parts += (_LENGTH.pack(len(text)), text)
        return b"".join(parts)
    return array.astype(DATATYPES[datatype], copy=False).tobytes()


def _strings(name: str, count: int, raw: bytes | memoryview) -> np.ndarray[Any, Any]:
    if count * _LENGTH.size > len(raw):
        raise TensorError(f"tensor {name!r}: {count} strings need {count * _LENGTH.size} bytes or more, not {len(raw)}")
    texts = np.empty(count, object)
    at = 0
    for index in range(count):
        if at + _LENGTH.size > len(raw):
            raise TensorError(f"tensor {name!r}: the bytes end before string {index}")
        (size,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if at + size > len(raw):
            raise TensorError(f"tensor {name!r}: string {index} is {size} bytes and {len(raw) - at} are left")
        texts[index] = text_of(name, bytes(raw[at : at + size]))
        at += size
    if at != len(raw):
        raise TensorError(f"tensor {name!r}: {len(raw) - at} bytes are left over after {count} strings")
    return texts


def text_of(name: str, raw: bytes) -> str:
    """The string in bytes: onnxruntime's are UTF-8.

    Raises:
        TensorError: They are not.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise TensorError(f"tensor {name!r}: a string is not UTF-8: {error.reason}") from error
