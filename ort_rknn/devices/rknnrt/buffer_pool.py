"""Big arrays in memory that was used before: fresh pages cost more than what is written to them.

The kernel gives memory page by page, each cleared and mapped when it is first touched: 4.8 MB of outputs took 1.7 ms of
CPU time, of which 0.2 ms were the writing (measured). An array from here gives its memory back when nobody has it, or a
view of it, any more. Where there is a native library the memory is kept there (``native/blocks.h``), so that a lane's
thread can take the block that was used last at the moment it has something to write.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array
    from ort_rknn.devices.rknnrt.native_calls import NativeLibrary

__all__ = ["Blocks"]

LEAST_BYTES = 128 << 10
"""Smaller arrays come from numpy: the C library keeps such memory itself (its limit)."""

MOST_BLOCKS = 16
"""Blocks of one size that are kept: what lanes, queue and callbacks of three cores hold with the default limits."""

MOST_BYTES = 64 << 20
"""Unused memory of one size that is kept. A guess."""


class Blocks:
    """Makes arrays of memory that comes back. Any thread may call; what is kept goes when this and the arrays go.

    Args:
        native: Where the memory is kept; else here.
    """

    def __init__(self, native: NativeLibrary | None = None) -> None:
        self._native = native
        self._stores: dict[int, Any] = {}

    def __del__(self) -> None:
        for store in self._stores.values():
            store.close()

    def maker(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Callable[[], Array]:
        """Returns a function that gives one array after the other, as ``numpy.empty`` does."""
        store = self._store_of(shape, dtype)
        if store is None:
            return partial(np.empty, tuple(shape), dtype)
        return lambda: _shaped(store.take(), shape, dtype)

    def late(self, shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[int, Callable[[int], Array]] | None:
        """Returns what tells native code to take such an array's memory when it needs it, and what makes it of that.

        ``None`` where there is no native library, and for arrays so small that they are numpy's.
        """
        store = self._store_of(shape, dtype) if self._native is not None else None
        if store is None:
            return None
        return store.pointer | 1, lambda address: _shaped(store.loan(address), shape, dtype)

    def loan(self, size: int) -> Any:
        """Returns memory alone, a ctypes array of so many bytes.

        Set its ``spent`` once native code has given it back.
        """
        return self._store(size).take()

    def _store_of(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """The store of such arrays' memory; ``None`` for those that are numpy's."""
        size = math.prod(shape) * dtype.itemsize
        return None if size < LEAST_BYTES or dtype.hasobject else self._store(size)

    def _store(self, size: int) -> Any:
        store = self._stores.get(size)
        if store is None:
            kept = max(1, min(MOST_BLOCKS, MOST_BYTES // max(1, size)))
            new = _Store(size, kept) if self._native is None else _NativeStore(size, kept, self._native)
            store = self._stores.setdefault(size, new)
            if store is not new:
                new.close()
        return store


def _shaped(loan: Any, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    array: Array = np.frombuffer(loan, dtype).reshape(shape)
    return array


def _kind(size: int, give: Callable[[Any], None]) -> Any:
    """The class of loans of blocks of one size: arrays keep their loan, and its end gives the block back."""

    def back(loan: Any) -> None:
        if not loan.spent:
            give(loan)

    return type("Loan", (ctypes.c_char * size,), {"nbytes": size, "spent": False, "__del__": back})


class _Store:
    """Keeps blocks as arrays of numpy's."""

    def __init__(self, size: int, kept: int) -> None:
        self._size = size
        self._unused: deque[Array] = deque(maxlen=kept)
        self._kind = _kind(size, self._give)

    def take(self) -> Any:
        try:
            block = self._unused.pop()
        except IndexError:
            block = np.empty(self._size, np.uint8)
        loan = self._kind.from_buffer(block)
        loan.block = block
        return loan

    def _give(self, loan: Any) -> None:
        self._unused.append(loan.block)

    def close(self) -> None:
        self._unused = deque(maxlen=0)


class _NativeStore:
    """``ort_rknn_blocks``."""

    def __init__(self, size: int, kept: int, native: NativeLibrary) -> None:
        library = native.short
        self._take, self._back, self._close = (
            getattr(library, f"ort_rknn_blocks_{name}") for name in ("take", "give", "close")
        )
        self._ending = sys.is_finalizing
        self.pointer: int = library.ort_rknn_blocks_new(size, kept)
        if not self.pointer:
            raise MemoryError("no memory for blocks")
        self._kind = _kind(size, self._give)
        self.loan = self._kind.from_address

    def take(self) -> Any:
        address = self._take(self.pointer)
        if not address:
            raise MemoryError("no memory for an array")
        return self.loan(address)

    def _give(self, loan: Any, address_of: Any = ctypes.addressof) -> None:
        if not self._ending():  # native threads may still be at work then
            self._back(address_of(loan))

    def close(self) -> None:
        if not self._ending():
            self._close(self.pointer)
