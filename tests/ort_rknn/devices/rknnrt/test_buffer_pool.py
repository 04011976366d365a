"""Arrays in memory that was used before: never while anybody has it, and not kept without end."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pytest

from ort_rknn.devices.rknnrt.buffer_pool import LEAST_BYTES, MOST_BLOCKS, Blocks
from tests.helpers.threads import together

FLOAT = np.dtype(np.float32)
SHAPE = (3, LEAST_BYTES // 4)


def test_memory_comes_back_with_the_last_view() -> None:
    blocks = Blocks()
    array = blocks.empty(SHAPE, FLOAT)
    place = array.ctypes.data
    assert (array.shape, array.dtype, array.flags.writeable, array.flags.c_contiguous) == (SHAPE, FLOAT, True, True)
    array[...] = 7
    view = array[1, 5:].T
    del array
    other = blocks.empty(SHAPE, FLOAT)
    assert other.ctypes.data != place
    assert (view == 7).all()
    del view
    assert blocks.empty(SHAPE, FLOAT).ctypes.data == place


def test_other_sizes_have_other_memory_and_other_dtypes_the_same() -> None:
    blocks = Blocks()
    place = blocks.empty(SHAPE, FLOAT).ctypes.data
    assert blocks.empty((4, *SHAPE), np.dtype(np.uint8)).ctypes.data == place
    assert blocks.empty((2, *SHAPE), FLOAT).nbytes == 2 * 3 * LEAST_BYTES


@pytest.mark.parametrize("shape", [(), (0, 5), (10,)])
def test_small_arrays_are_numpy_s(shape: tuple[int, ...]) -> None:
    array = Blocks().empty(shape, FLOAT)
    assert array.flags.owndata
    assert array.shape == shape


def test_what_is_kept_is_limited() -> None:
    blocks = Blocks()
    arrays = [blocks.empty(SHAPE, FLOAT) for _ in range(3 * MOST_BLOCKS)]
    (kind,) = blocks._kinds.values()
    del arrays
    assert len(kind.unused) == MOST_BLOCKS
    last = blocks.empty(SHAPE, FLOAT)
    del blocks
    assert not kind.unused
    last[...] = 1  # outlives them
    assert pickle.loads(pickle.dumps(last)).sum() == last.size
    del last
    assert not kind.unused
    gc.collect()


def test_threads() -> None:
    blocks = Blocks()
    failures = []

    def work(tag: int) -> None:
        for _ in range(300):
            array = blocks.empty(SHAPE, FLOAT)
            array[:, ::4096] = tag
            if not (array[:, ::4096] == tag).all():
                failures.append(tag)

    together(work, range(8))
    assert not failures
