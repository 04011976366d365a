"""Reads a FlatBuffer without its schema, from bytes nobody vouches for.

Every offset is checked before it is followed, and the work is bounded: offsets that point many times at the same
place could otherwise make a small file take forever.
"""

from __future__ import annotations

import struct

__all__ = ["Damaged", "FlatBuffer", "Table"]

BYTES_PER_BYTE = 4  # how often each byte may be read: well-formed files stay below 1
SPARE_BYTES = 1 << 16  # on top of that, for small files (a guess)
READ_COST = 8  # each read counts as some bytes more, because it takes time too
MOST_BYTES = 1 << 25  # no description of a model is longer; a few seconds of work at most


class Damaged(ValueError):
    """Raised when an offset, a length or a string cannot be right."""


class FlatBuffer:
    """The bytes of one FlatBuffer and how much more may be read of them."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._left = min(len(data) * BYTES_PER_BYTE + SPARE_BYTES, MOST_BYTES)

    def _take(self, at: int, length: int) -> memoryview:
        if at < 0 or length < 0 or at + length > len(self._data):
            raise Damaged(f"an offset leads to byte {at} of {len(self._data)}")
        self._left -= length + READ_COST
        if self._left < 0:
            raise Damaged("more is described than the file can hold")
        return self._data[at : at + length]

    def number(self, kind: str, at: int) -> int:
        """The number of struct's type ``kind`` at byte ``at``."""
        layout = struct.Struct("<" + kind)
        (value,) = layout.unpack(self._take(at, layout.size))
        return int(value)

    def follow(self, at: int) -> int:
        """Position that the relative offset at byte ``at`` leads to."""
        return at + self.number("I", at)

    def root(self) -> Table:
        """The outermost table."""
        return Table(self, self.follow(0))

    def text(self, at: int) -> str:
        """The string at byte ``at``.

        Raises:
            Damaged: There is none.
        """
        length = self.number("I", at)
        try:
            return bytes(self._take(at + 4, length)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Damaged("a string that is not UTF-8") from error

    def numbers(self, kind: str, at: int) -> tuple[int, ...] | tuple[float, ...]:
        """The vector of numbers of struct's type ``kind`` at byte ``at``.

        Raises:
            Damaged: There is none.
        """
        count = self.number("I", at)
        size = struct.calcsize("<" + kind)
        if count > len(self._data) // size:
            raise Damaged(f"a vector of {count} elements")
        return struct.unpack(f"<{count}{kind}", self._take(at + 4, count * size))

    def tables(self, at: int) -> list[Table]:
        """The vector of tables at byte ``at``."""
        starts = self.numbers("I", at)
        return [Table(self, at + 4 + 4 * position + int(start)) for position, start in enumerate(starts)]


class Table:
    """One table; its fields are known by their slot numbers, and an absent field has its default."""

    def __init__(self, buffer: FlatBuffer, at: int) -> None:
        self._buffer = buffer
        self._at = at
        self._vtable = at - buffer.number("i", at)
        self._slots = (buffer.number("H", self._vtable) - 4) // 2

    def _field(self, slot: int) -> int | None:
        if slot >= self._slots:
            return None
        offset = self._buffer.number("H", self._vtable + 4 + 2 * slot)
        return self._at + offset if offset else None

    def number(self, slot: int, kind: str) -> int:
        """The number in ``slot``, 0 when absent."""
        at = self._field(slot)
        return 0 if at is None else self._buffer.number(kind, at)

    def text(self, slot: int) -> str:
        """The string in ``slot``, empty when absent."""
        at = self._field(slot)
        return "" if at is None else self._buffer.text(self._buffer.follow(at))

    def integers(self, slot: int, kind: str = "i") -> tuple[int, ...]:
        """The vector of integers in ``slot``, empty when absent."""
        at = self._field(slot)
        return () if at is None else tuple(int(n) for n in self._buffer.numbers(kind, self._buffer.follow(at)))

    def floats(self, slot: int) -> tuple[float, ...]:
        """The vector of float32 in ``slot``, empty when absent."""
        at = self._field(slot)
        return () if at is None else tuple(float(n) for n in self._buffer.numbers("f", self._buffer.follow(at)))

    def tables(self, slot: int) -> list[Table]:
        """The vector of tables in ``slot``, empty when absent."""
        at = self._field(slot)
        return [] if at is None else self._buffer.tables(self._buffer.follow(at))
