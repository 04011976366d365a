"""Just enough of protobuf's wire format to look into a model, and to write one, without its large contents.

A model of 100 MB is almost all weights; this walk steps over them by their length, so it costs what its nodes cost.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ort_rknn_converters.provider import PROVIDERS
from ort_rknn_converters.util.own_files import open_regular

__all__ = [
    "CONTENT_LIMIT",
    "KEY_BUNDLE",
    "LENGTH",
    "PROTO_LIMIT",
    "VARINT",
    "NotProtobuf",
    "fields",
    "is_bundle",
    "is_compiled",
    "opened",
    "opening",
    "varint",
    "written",
]

KEY_BUNDLE = "ort_rknn.bundle"
"""Metadata key of a file that holds several compiled forms."""

PROTO_LIMIT = 2**31 - 1
"""Bytes one protobuf message can have on disk or on a wire (the format's limit)."""

CONTENT_LIMIT = 1_800_000_000
"""Bytes of weights and code that we put into one message: the rest up to :data:`PROTO_LIMIT` is for its nodes."""

MODEL_GRAPH, _MODEL_METADATA = 7, 14
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
_NODE_OP_TYPE, NODE_ATTRIBUTE = 4, 5
_ATTRIBUTE_NAME, ATTRIBUTE_S = 1, 4
TENSOR_RAW = 9

_VERSION_ENTRY = b"\x0a\x10ort_rknn.version\x12"
"""How protobuf writes the metadata key that every compiled model has, and the tag of its value."""

_SOURCES = tuple(name.encode() for name in PROVIDERS)
"""``source`` of the EPContext nodes that are ours."""

VARINT, LENGTH = 0, 2
"""Kinds of fields: a number, or bytes with their length in front."""

_Bytes = bytes | mmap.mmap


class NotProtobuf(ValueError):
    """The bytes end in the middle of a field, or are none."""


def is_compiled(model: str | os.PathLike[str] | bytes) -> bool:
    """Implements :func:`ort_rknn_converters.compiled.model.is_compiled`."""
    with opened(model) as data:
        return _scan(data)


def is_bundle(model: str | os.PathLike[str] | bytes) -> bool:
    """Whether a compiled model's file holds several forms of it (:mod:`ort_rknn_converters.compiled.bundle`).

    Raises:
        FileNotFoundError: There is no such file.
    """
    head = b"\x0a" + bytes([len(KEY_BUNDLE)]) + KEY_BUNDLE.encode() + b"\x12"
    with opened(model) as data:
        try:
            return any(
                field == _MODEL_METADATA and data[start : start + len(head)] == head
                for field, start, _ in _fields(data, 0, len(data))
            )
        except NotProtobuf:
            return False


@contextmanager
def opened(model: str | os.PathLike[str] | bytes) -> Iterator[bytes | mmap.mmap]:
    """The bytes of a model; a file is mapped, not read.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read, or is no file but a pipe, a device or a folder.
    """
    if isinstance(model, (bytes, bytearray, memoryview)):
        yield bytes(model)
        return
    with open_regular(model) as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _scan(data: _Bytes) -> bool:
    try:
        for field, start, end in _fields(data, 0, len(data)):
            if field == MODEL_GRAPH and any(_is_ours(data, *node) for node in _nodes(data, start, end)):
                return True
            # A model of which nothing runs on the NPU has no such node, but it was converted all the same.
            if field == _MODEL_METADATA and data[start : start + len(_VERSION_ENTRY)] == _VERSION_ENTRY:
                return True
    except NotProtobuf:
        return False
    return False


def _nodes(data: _Bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    for field, low, high in _fields(data, start, end):
        if field == GRAPH_NODE:
            yield low, high


def _is_ours(data: _Bytes, start: int, end: int) -> bool:
    op_type, source = b"", b""
    for field, low, high in _fields(data, start, end):
        if field == _NODE_OP_TYPE:
            op_type = data[low:high]
            if op_type != b"EPContext":
                return False
        elif field == NODE_ATTRIBUTE and high - low < 256:
            found = {number: data[a:b] for number, a, b in _fields(data, low, high)}
            if found.get(_ATTRIBUTE_NAME) == b"source":
                source = found.get(ATTRIBUTE_S, b"")
    return op_type == b"EPContext" and source in _SOURCES


def _fields(data: _Bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The length-delimited fields between two offsets, as (number, start, end) of their content."""
    return ((number, low, high) for number, kind, low, high in fields(data, start, end) if kind == LENGTH)


def fields(data: _Bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields between two offsets, as (number, kind, start, end) of their content; a varint's start is its value.

    Raises:
        NotProtobuf: The bytes are no message.
    """
    at = start
    while at < end:
        key, at = varint(data, at, end)
        kind = key & 7
        if kind == LENGTH:
            length, at = varint(data, at, end)
            if at + length > end:
                raise NotProtobuf("a field that ends behind its message")
            yield key >> 3, kind, at, at + length
            at += length
        elif kind == VARINT:
            value, at = varint(data, at, end)
            yield key >> 3, kind, value, at
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
            if at > end:
                raise NotProtobuf("a number that ends behind its message")
        else:
            raise NotProtobuf(f"wire type {kind}")


def opening(size: int, *levels: tuple[bytes, int]) -> bytes:
    """Encodes the tag and length prefixes of nested length-delimited fields.

    Args:
        size: Number of the bytes.
        levels: Per message, the outermost first: what it has in front, and the number of the field that follows: the
            next message, or the bytes.
    """
    head = b""
    for before, number in reversed(levels):
        head = before + bytes([number << 3 | LENGTH]) + written(len(head) + size) + head
    return head


def written(number: int) -> bytes:
    """A number as protobuf writes it: seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def varint(data: _Bytes, at: int, end: int) -> tuple[int, int]:
    """The number at an offset, and where the next field begins.

    Raises:
        NotProtobuf: The bytes end before it does, or it is longer than any.
    """
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise NotProtobuf("a number without an end")
