"""Arrays in memory that was used before: never while anybody has it, and not kept without end."""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from ort_rknn.devices.rknnrt.buffer_pool import LEAST_BYTES, MOST_BLOCKS, Blocks
from tests.helpers.native_fake import built_library
from tests.helpers.threads import together

FLOAT = np.dtype(np.float32)
SHAPE = (3, LEAST_BYTES // 4)

Maker = Callable[[], Blocks]


@pytest.fixture(params=["python", "native"])
def make(request: pytest.FixtureRequest) -> Maker:
    library = built_library() if request.param == "native" else None
    return lambda: Blocks(library)


def test_memory_comes_back_with_the_last_view(make: Maker) -> None:
    blocks = make()
    array = blocks.maker(SHAPE, FLOAT)()
    place = array.ctypes.data
    assert (array.shape, array.dtype, array.flags.writeable, array.flags.c_contiguous) == (SHAPE, FLOAT, True, True)
    array[...] = 7
    view = array[1, 5:].T
    del array
    other = blocks.maker(SHAPE, FLOAT)()
    assert other.ctypes.data != place
    assert (view == 7).all()
    del view
    assert blocks.maker(SHAPE, FLOAT)().ctypes.data == place


def test_other_sizes_have_other_memory_and_other_dtypes_the_same(make: Maker) -> None:
    blocks = make()
    place = blocks.maker(SHAPE, FLOAT)().ctypes.data
    assert blocks.maker((4, *SHAPE), np.dtype(np.uint8))().ctypes.data == place
    assert blocks.maker((2, *SHAPE), FLOAT)().nbytes == 2 * 3 * LEAST_BYTES


@pytest.mark.parametrize("shape", [(), (0, 5), (10,)])
def test_small_arrays_are_numpy_s(shape: tuple[int, ...], make: Maker) -> None:
    array = make().maker(shape, FLOAT)()
    assert array.flags.owndata
    assert array.shape == shape
    assert make().late(shape, FLOAT) is None


def test_what_is_kept_is_limited(make: Maker) -> None:
    blocks = make()
    arrays = [blocks.maker(SHAPE, FLOAT)() for _ in range(3 * MOST_BLOCKS)]
    for tag, array in enumerate(arrays):
        array[...] = tag
    places = {array.ctypes.data for array in arrays}
    assert len(places) == 3 * MOST_BLOCKS
    assert [array[2, -1] for array in arrays] == list(range(3 * MOST_BLOCKS))
    before = _allocated()
    del arrays, array
    gc.collect()
    assert before - _allocated() > 0.9 * 2 * MOST_BLOCKS * 3 * LEAST_BYTES
    last = blocks.maker(SHAPE, FLOAT)()
    last[...] = 1
    del blocks
    gc.collect()
    assert before - _allocated() > 0.9 * (3 * MOST_BLOCKS - 1) * 3 * LEAST_BYTES
    last[...] = 1  # outlives them
    assert pickle.loads(pickle.dumps(last)).sum() == last.size


class _MallInfo(ctypes.Structure):
    _fields_ = tuple((f"field{i}", ctypes.c_size_t) for i in range(10))


def _allocated() -> int:
    """Bytes that the C library has given away: in its heaps, and pages of their own."""
    info = ctypes.CDLL(None).mallinfo2
    info.restype = _MallInfo
    found = info()
    return int(found.field7 + found.field4)


def test_threads(make: Maker) -> None:
    blocks = make()
    failures = []

    def work(tag: int) -> None:
        for _ in range(300):
            array = blocks.maker(SHAPE, FLOAT)()
            array[:, ::4096] = tag
            if not (array[:, ::4096] == tag).all():
                failures.append(tag)

    together(work, range(8))
    assert not failures


def test_native_code_takes_what_was_used_last() -> None:
    library = built_library()
    blocks = Blocks(library)
    late = blocks.late(SHAPE, FLOAT)
    assert late is not None
    word, array_at = late
    address = library.short.ort_rknn_blocks_take(word - 1)
    array = array_at(address)
    assert (array.ctypes.data, array.shape, array.dtype) == (address, SHAPE, FLOAT)
    assert address % 64 == 0
    other = blocks.maker(SHAPE, FLOAT)()
    assert other.ctypes.data != address
    del array
    assert library.short.ort_rknn_blocks_take(word - 1) == address


def test_what_native_code_gave_back_is_not_given_back_again() -> None:
    library = built_library()
    blocks = Blocks(library)
    loan = blocks.loan(LEAST_BYTES)
    place = ctypes.addressof(loan)
    library.short.ort_rknn_blocks_give(place)
    again = blocks.loan(LEAST_BYTES)
    assert ctypes.addressof(again) == place
    loan.spent = True
    del loan
    assert ctypes.addressof(blocks.loan(LEAST_BYTES)) != place
    library.short.ort_rknn_blocks_give(place)
    library.short.ort_rknn_blocks_give(place)  # nothing happens
    first, second = blocks.loan(LEAST_BYTES), blocks.loan(LEAST_BYTES)
    assert ctypes.addressof(first) != ctypes.addressof(second)
    again.spent = True


def test_arrays_of_a_child_come_back_there() -> None:
    blocks = Blocks(built_library())
    array = blocks.maker(SHAPE, FLOAT)()
    child = os.fork()
    if not child:
        place = array.ctypes.data
        del array
        os._exit(blocks.maker(SHAPE, FLOAT)().ctypes.data != place)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
