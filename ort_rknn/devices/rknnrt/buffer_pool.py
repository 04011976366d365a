"""Big arrays in memory that was used before: fresh pages cost more than what is written to them.

The kernel gives memory page by page, each cleared and mapped when it is first touched: 4.8 MB of outputs took 1.7 ms of
CPU time, of which 0.2 ms were the writing (measured). An array from here gives its memory back when nobody has it, or a
view of it, any more.
"""

from __future__ import annotations

import ctypes
import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array

__all__ = ["Blocks"]

LEAST_BYTES = 128 << 10
"""Smaller arrays come from numpy: the C library keeps such memory itself (its limit)."""

MOST_BLOCKS = 16
"""Blocks of one size that are kept: what lanes, queue and callbacks of three cores hold with the default limits."""

MOST_BYTES = 64 << 20
"""Unused memory of one size that is kept. A guess."""


class Blocks:
    """Makes arrays of memory that comes back. Any thread may call; what is kept goes when this and the arrays go."""

    def __init__(self) -> None:
        self._kinds: dict[int, Any] = {}

    def __del__(self) -> None:
        for kind in self._kinds.values():
            kind.unused = deque(maxlen=0)

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """Returns an array as ``numpy.empty`` does."""
        return self.maker(shape, dtype)()

    def maker(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Callable[[], Array]:
        """Returns a function that gives one such array after the other."""
        size = math.prod(shape) * dtype.itemsize
        if size < LEAST_BYTES or dtype.hasobject:
            return partial(np.empty, tuple(shape), dtype)
        kind = self._kinds.get(size)
        if kind is None:
            kind = self._kinds.setdefault(size, _kind(size))
        return partial(_take, kind, tuple(shape), dtype)


def _take(kind: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    try:
        block = kind.unused.pop()
    except IndexError:
        block = np.empty(ctypes.sizeof(kind), np.uint8)
    loan = kind.from_buffer(block)
    loan.block = block
    array: Array = np.frombuffer(loan, dtype).reshape(shape)
    return array


def _kind(size: int) -> Any:
    """The class of loans of blocks of one size: arrays keep their loan, and its end puts the block back."""
    unused: deque[Array] = deque(maxlen=max(1, min(MOST_BLOCKS, MOST_BYTES // size)))

    def back(loan: Any) -> None:
        type(loan).unused.append(loan.block)

    return type("Loan", (ctypes.c_char * size,), {"unused": unused, "__del__": back})
