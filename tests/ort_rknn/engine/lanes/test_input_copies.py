"""Copies of inputs."""

from __future__ import annotations

import numpy as np
import pytest

from ort_rknn.engine.lanes.input_copies import MOST_BYTES, copy_of


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "float64", "int8", "uint64", "bool", "complex64", "U3", "S4", "O", "M8[s]"]
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5,), (2, 3, 4)])
def test_copies(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.arange(int(np.prod(shape))).reshape(shape) % 3).astype(dtype)
    array.setflags(write=False)
    copied = copy_of(array)
    assert (copied.dtype, copied.shape) == (array.dtype, array.shape)
    assert copied.flags.owndata or copied.base is not array
    assert copied.flags.writeable
    np.testing.assert_array_equal(copied, array)


def test_strided_and_large() -> None:
    array = np.arange(24).reshape(4, 6)[::2, ::3]
    np.testing.assert_array_equal(copy_of(array), array)
    large = np.ones(MOST_BYTES + 8, np.uint8)
    assert not np.shares_memory(copy_of(large), large)
