"""Copies of inputs that keep the interpreter's lock.

numpy gives the lock away while it copies more than 500 elements; with another busy thread it then takes one switch
interval (5 ms) to come back, ten times what the copy takes.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np

__all__ = ["copy_of"]

MOST_BYTES = 8 << 20
"""Larger arrays are copied without the lock: their copy takes about as long as getting it back. A guess from
10 GB/s."""


def copy_of(array: Any) -> Any:
    """A copy of a C-contiguous array; of whatever else a CPU step may take, what its owner could change."""
    if not isinstance(array, np.ndarray):
        return deepcopy(array) if isinstance(array, (list, dict)) else array
    if array.nbytes > MOST_BYTES or not array.flags.c_contiguous or array.dtype.hasobject:
        return array.copy()
    fresh = np.empty(array.shape, array.dtype)
    try:
        fresh.data.cast("B")[:] = array.data.cast("B")
    except (TypeError, ValueError):  # empty, or of a type without a buffer format
        if array.nbytes:
            source: Any = array.reshape(-1).view(np.uint8)
            target: Any = fresh.reshape(-1).view(np.uint8)
            memoryview(target)[:] = memoryview(source)
    return fresh
