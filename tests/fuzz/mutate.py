"""Mutates bytes: what a bad disk, a broken transfer or a stranger may have done to a file."""

from __future__ import annotations

import random

__all__ = ["mutated"]

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1)
_TEXTS = (
    *(b"null", b"-1", b"1e999", b"true", b"[]", b"{}", b'""', b"NaN", b"[" * 300, b'{"a":' * 300, b"9" * 5000),
    *(b"../../x", b"\0", b"\x1b[2J", b"\xff\xfe", b"\r\n", b"[[[[", b'"', b"}" * 9),
)


def mutated(data: bytes, random: random.Random) -> bytes:
    """One to eight changes of random kinds at random places."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        at = random.randrange(len(out) + 1)
        length = random.choice((1, 2, 4, 8, 16, 100, len(out) // 3 + 1))
        kind = random.randrange(8)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << random.randrange(8)
        elif kind == 1:
            out[at : at + 8] = random.choice(_NUMBERS).to_bytes(8, "little")
        elif kind == 2:
            del out[at : at + length]
        elif kind == 3:
            out[at:at] = out[at : at + length]
        elif kind == 4:
            out[at : at + random.choice((0, 1, 4))] = random.choice(_TEXTS)
        elif kind == 5:
            del out[at:]
        elif kind == 6:
            other = random.randrange(len(out) + 1)
            out[at : at + length] = out[other : other + length]
        else:
            out[at : at + length] = random.randbytes(min(length, 64))
    return bytes(out)
