"""Mangled ``.rknn`` files: the reader answers or raises CompiledModelError, and does so quickly."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.rknn_format import reader
from ort_rknn_converters.rknn_format.flatbuffer import Damaged, FlatBuffer

FILES = [path.read_bytes() for path in sorted((Path(__file__).resolve().parents[2] / "data" / "rknn").glob("*.rknn"))]
SLOWEST_S = 5.0  # of the processor's time; measured: 0.02 s at the most
MUTANTS = 100_000
SMALLEST = 200  # bytes: less is nothing to mutate

Mutation = Callable[[random.Random, bytearray], None]


def flip(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] = rng.randrange(256)


def huge(rng: random.Random, data: bytearray) -> None:
    kind = rng.choice("HIQ")
    at = rng.randrange(len(data) - 8)
    struct.pack_into("<" + kind, data, at, rng.choice([0, 1, 0x7F, (1 << 8 * struct.calcsize(kind)) - 1, at]) & 0xFFFF)


def offset(rng: random.Random, data: bytearray) -> None:
    """A word that leads somewhere else in the file: loops and shared objects."""
    struct.pack_into("<I", data, 64 + 4 * rng.randrange((len(data) - 72) // 4), rng.randrange(len(data)))


def cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(8, len(data)) :]
    data.extend(bytes(16))


def remove(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(8, len(data) - 8)
    del data[at : at + rng.randrange(1, 64)]


def repeat(rng: random.Random, data: bytearray) -> None:
    at, length = rng.randrange(8, len(data) - 8), rng.randrange(1, 256)
    data[at:at] = data[at : at + length] * rng.randrange(1, 8)


def text(rng: random.Random, data: bytearray) -> None:
    """Something in one of the descriptions."""
    at = data.find(
        rng.choice([b"{", b"[", b":", b'"', b"'", b"1", b"size", b"left", b"attrs"]), rng.randrange(len(data))
    )
    if at >= 0:
        data[at : at + 1] = rng.choice(
            [b"[", b"{", b"}", b'"', b"'", b"\\", b"-", b"9" * 300, b"[" * 50, b"nan", b"\xff"]
        )


MUTATIONS: tuple[Mutation, ...] = (flip, flip, flip, huge, offset, offset, cut, remove, repeat, text)


def head_heavy(rng: random.Random, data: bytearray) -> None:
    """Most of a file is code; the description of the graph is where a reader can be led astray."""
    for _ in range(rng.randrange(1, 6)):
        struct.pack_into("<I", data, 64 + 4 * rng.randrange(min(len(data) // 4 - 20, 3000)), rng.randrange(1 << 12))


def mutant(seed: int) -> bytes:
    rng = random.Random(seed)
    data = bytearray(rng.choice(FILES))
    for _ in range(rng.randrange(1, 5)):
        if len(data) > SMALLEST:
            rng.choice((*MUTATIONS, head_heavy))(rng, data)
    return bytes(data)


def check(data: bytes) -> bool:
    """Whether the file was read; anything but an answer or CompiledModelError fails the test."""
    began = time.thread_time()
    try:
        reader.read_rknn(data)
        read = True
    except CompiledModelError:
        read = False
    assert time.thread_time() - began < SLOWEST_S
    return read


@settings(max_examples=400)
@given(st.integers(0, 1 << 60))
def test_mangled_files(seed: int) -> None:
    check(mutant(seed))


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_random_bytes_behind_the_magic(data: bytes) -> None:
    check(b"RKNN\0\0\0\0" + data)
    check(b"RKNN\0\0\0\0" + struct.pack("<QQ", 6, len(data)) + bytes(40) + struct.pack("<I", 8) + b"RKNN" + data)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_mangled_files() -> None:
    read = sum(check(mutant(seed)) for seed in range(MUTANTS))
    assert 0 < read < MUTANTS  # neither all nor none survive, or the mutations miss


def follow_everything(data: bytes) -> None:
    for inner in FlatBuffer(memoryview(data)).root().tables(0):
        inner.tables(0)


def test_offsets_that_share_one_object_do_not_take_forever() -> None:
    """A table with a vector of many tables that are all this table again."""
    count = 200_000
    vtable_at, table_at, vector_at = 4, 12, 20
    head = struct.pack("<IHHHxx", table_at, 6, 8, 4) + struct.pack("<iI", table_at - vtable_at, vector_at - 16)
    offsets = [(table_at - (vector_at + 4 + 4 * position)) & 0xFFFFFFFF for position in range(count)]
    began = time.thread_time()
    with pytest.raises(Damaged, match="an offset leads to"):  # unsigned: nothing leads backwards
        follow_everything(head + struct.pack(f"<I{count}I", count, *offsets))
    table_at = vector_at + 4 + 4 * count
    offsets = [table_at - (vector_at + 4 + 4 * position) for position in range(count)]
    inner = struct.pack("<iI", table_at - vtable_at, 4) + struct.pack("<I400I", 400, *([0] * 400))
    with pytest.raises(Damaged, match="more is described than"):
        follow_everything(head + struct.pack(f"<I{count}I", count, *offsets) + inner)
    assert time.thread_time() - began < SLOWEST_S
