"""Messages of inferences without the copies: a tensor's bytes are cut out of a message, and joined to one, as they lie.

The parser of protocol buffers copies every field, and reading a field of bytes copies it again; for pictures that was
more work than all else (measured). Only the outermost fields are walked here, by the published numbers; a message that
is small, has very many fields or looks odd is left to the parser, which also says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

from ort_rknn.remote.tensors import DATATYPES, STRINGS, encode
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Parted", "cut", "field_head", "field_number", "fields", "raw_bytes", "read_parted", "wrapped"]

_SMALL = 16 << 10  # bytes below which the parser's copies cost less than the walk (measured)
_FEW = 1 << 10  # bytes below which a copy costs less than a view (measured)
_MOST_FIELDS = 256  # a model has a few inputs; who sends thousands of fields gets no walk in Python
_BYTES = 2  # the wire's number for a field with a length


@frozen
class Parted:
    """A message, and the bytes of its tensors.

    Attributes:
        message: The parsed message; its own field of raw contents may be empty.
        raw: The raw contents, in order; those of large messages lie in the message as it came.
    """

    message: Any
    raw: Sequence[bytes | memoryview]


@cache
def field_number(message_class: Any, name: str) -> int:
    """The published number of a field."""
    return int(message_class.DESCRIPTOR.fields_by_name[name].number)


def read_parted(message_class: Any, name: str, content: bytes) -> Parted:
    """Parses a message, but for the field of raw contents, which is left where it lies.

    Args:
        message_class: The published class of the message.
        name: The field of raw contents.
        content: The message as it came.

    Raises:
        DecodeError: Protocol buffers': it is no such message.
    """
    parts = cut(content, field_number(message_class, name)) if len(content) > _SMALL else None
    if parts is None:
        message = message_class.FromString(content)
        return Parted(message, getattr(message, name))
    rest, spans = parts
    view = memoryview(content)
    return Parted(message_class.FromString(rest), [view[begun:end] for begun, end in spans])


def cut(content: bytes, number: int) -> tuple[bytes, list[tuple[int, int]]] | None:
    """Separates every field of one number from the rest of a message.

    Returns:
        The rest, and where the fields begin and end, in order; ``None`` where the parser must look.
    """
    from ort_rknn_converters.onnx_file.protobuf_wire import NotProtobuf, varint

    view, size = memoryview(content), len(content)
    kept: list[memoryview] = []
    found: list[tuple[int, int]] = []
    at = begun = 0
    try:
        for _ in range(_MOST_FIELDS):
            if at >= size:
                break
            first = at
            key, at = varint(content, at, size)
            kind = key & 7
            if kind == _BYTES:
                length, at = varint(content, at, size)
                end = at + length
                if end > size:
                    return None
                if key >> 3 == number:
                    found.append((at, end))
                    kept.append(view[begun:first])
                    begun = end
                at = end
            elif kind == 0:
                _, at = varint(content, at, size)
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            else:
                return None
        else:
            return None
    except NotProtobuf:
        return None
    if at != size:
        return None
    kept.append(view[begun:])
    return b"".join(kept), found


def fields(number: int, raw: Iterable[bytes | memoryview]) -> list[bytes | memoryview]:
    """The pieces of fields of bytes, to be joined with the rest of their message: the one copy there is."""
    pieces: list[bytes | memoryview] = []
    for one in raw:
        pieces += (field_head(number, len(one)), one)
    return pieces


@lru_cache(256)
def field_head(number: int, size: int) -> bytes:
    """The bytes before a field of bytes."""
    from ort_rknn_converters.onnx_file.protobuf_wire import written

    return written(number << 3 | _BYTES) + written(size)


def wrapped(number: int, pieces: Sequence[bytes | memoryview]) -> bytes:
    """A message whose one field is the message of these pieces."""
    return b"".join((field_head(number, sum(map(len, pieces))), *pieces))


def raw_bytes(array: np.ndarray[Any, Any], datatype: str) -> bytes | memoryview:
    """The raw bytes of an array in the protocol's order; where they lie, if they are so already.

    Args:
        array: The values.
        datatype: The protocol's name of their type.
    """
    if datatype == STRINGS or array.nbytes < _FEW:
        return encode(array, datatype)
    flat = np.ascontiguousarray(array, DATATYPES[datatype]).reshape(-1)
    return flat.view(np.uint8).data
