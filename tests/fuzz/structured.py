"""Mutates what bytes mean and keeps the rest sound: a value of a JSON text, a field of a protobuf message.

Changed bytes mostly end at the first length or bracket that is wrong; these get as far as the value.
"""

from __future__ import annotations

import json
import random
import struct
from typing import Any

from ort_rknn_converters.onnx_file.protobuf_wire import LENGTH, VARINT, NotProtobuf, varint, written

__all__ = ["restructured"]

_Field = tuple[int, int, Any]

_HUGE = 10**400
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), _HUGE, -_HUGE, 0.5, -0.0, 1e308, 5e-324),
    *(
        float("nan"),
        float("inf"),
        float("-inf"),
        "",
        "x",
        "\0",
        "\ud800",
        "\udcff",
        "\x9b2J",
        "\u202e",
        "{0}%s[red]",
        "../../x",
    ),
    *("a" * 100_000, [], {}, [[]], [None], {"": None}, [0] * 1000, {"a": {"a": {"a": {}}}}, "1e999", "nan", "-1"),
)
_NUMBERS = (0, 1, 2, 3, 127, 128, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
_DEEPEST = 12


def restructured(data: bytes, random: random.Random) -> bytes:
    """One or two changes of values; bytes that are neither JSON nor protobuf come back as they are."""
    for _ in range(random.choice((1, 1, 2))):
        data = _json(data, random) or _rknn(data, random) or _message(data, random, 0) or data
    return data


def _json(data: bytes, random: random.Random) -> bytes | None:
    if data[:1] not in (b"{", b"["):
        return None
    text = data.rstrip(b" \0")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    places: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        one = todo.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one))
        places += [(one, key) for key in keys]
        todo += [one[key] for key in keys if isinstance(one[key], (dict, list))]
    if not places:
        return None
    box, key = random.choice(places)
    kind = random.randrange(6)
    if kind < 3:
        box[key] = random.choice(_VALUES)
    elif kind == 3:
        del box[key]
    elif kind == 4 and isinstance(box, dict):
        box[random.choice(("", "more", "\ud800", "\udcff", "__class__"))] = box.pop(key) if random.random() < 0.5 else 1
    else:
        other, there = random.choice(places)
        box[key] = json.loads(json.dumps(other[there])) if there in (other if isinstance(other, dict) else ()) else 7
    out = json.dumps(value, ensure_ascii=random.random() < 0.8).encode("utf-8", "surrogatepass")
    return out if len(text) == len(data) else out[: len(data)].ljust(len(data))


def _rknn(data: bytes, random: random.Random) -> bytes | None:
    """A ``.rknn``: its JSON text, or a number of its FlatBuffer (offsets are close to their targets)."""
    if data[:4] != b"RKNN" or len(data) < 24:
        return None
    (length,) = struct.unpack_from("<Q", data, 16)
    end = 64 + length
    if end + 8 > len(data):
        return None
    (behind,) = struct.unpack_from("<Q", data, end)
    text = data[end + 8 : end + 8 + behind]
    if random.random() < 0.4 and (changed := _json(text, random)) is not None:
        return data[: end + 8 - 8] + struct.pack("<Q", len(changed)) + changed + data[end + 8 + behind :]
    out = bytearray(data)
    at = 64 + 4 * random.randrange(max(1, length // 4))
    (old,) = struct.unpack_from("<I", out, at) if at + 4 <= len(out) else (0,)
    new = random.choice((old + random.choice((-8, -4, -1, 1, 4, 8)), *_NUMBERS)) & 0xFFFFFFFF
    out[at : at + 4] = struct.pack("<I", new)
    return bytes(out)


def _message(data: bytes, random: random.Random, depth: int) -> bytes | None:
    found = _fields(data)
    if not found or depth > _DEEPEST:
        return None
    at = random.randrange(len(found))
    number, kind, value = found[at]
    choice = random.randrange(10)
    if choice == 0:
        del found[at]
    elif choice == 1:
        found[at:at] = [found[at]] * random.choice((1, 1, 2, 50))
    elif choice == 2:
        found[at] = (random.choice((1, 2, 3, 4, 5, 7, 8, 9, 13, 14, 20)), kind, value)
    elif kind == VARINT:
        found[at] = (number, kind, random.choice((*_NUMBERS, value + 1)))
    elif kind == LENGTH:
        inner = _json(value, random) or _message(value, random, depth + 1)
        if inner is None or random.random() < 0.1:
            inner = random.choice(
                (b"", b"\xff", b"\0", b"1e999", b"-1", b"9" * 30, value * 2, value[:-1], value[::-1], b"\xed\xa0\x80")
            )
        found[at] = (number, kind, inner)
    return b"".join(map(_packed, found))


def _fields(data: bytes) -> list[_Field] | None:
    found: list[_Field] = []
    at, end = 0, len(data)
    try:
        while at < end:
            key, at = varint(data, at, end)
            kind = key & 7
            if not key >> 3 or key >> 3 > 1000:
                return None
            value: Any
            if kind == LENGTH:
                length, at = varint(data, at, end)
                value, at = data[at : at + length], at + length
            elif kind == VARINT:
                value, at = varint(data, at, end)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
                value, at = data[at : at + size], at + size
            else:
                return None
            if at > end:
                return None
            found.append((key >> 3, kind, value))
    except NotProtobuf:
        return None
    return found


def _packed(field: _Field) -> bytes:
    number, kind, value = field
    head = written(number << 3 | kind)
    if kind == LENGTH:
        return head + written(len(value)) + value
    return head + (written(value & (2**64 - 1)) if kind == VARINT else value)
