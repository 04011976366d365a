"""NCHW to NHWC in native code, which has a loop of its own for pictures on each kind of processor."""

from __future__ import annotations

import numpy as np
import pytest

from ort_rknn.devices.native_segment import NativeLibrary
from tests.helpers.npu import build_native


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 17, 40])
@pytest.mark.parametrize("points", [1, 5, 16, 31, 32, 33, 1000])
def test_any_size_is_turned(dtype: str, channels: int, points: int) -> None:
    random = np.random.default_rng(points)
    planes = random.integers(0, 256, (channels, points * np.dtype(dtype).itemsize), np.uint8).view(dtype)
    room = np.zeros((points + 1, channels), dtype)
    turn = NativeLibrary(build_native()).short.ort_rknn_interleave
    turn(planes.ctypes.data, room.ctypes.data, channels, points, planes.itemsize)
    assert room[:points].tobytes() == planes.T.tobytes()
    assert not room[points:].tobytes().strip(b"\0"), "written beyond the end"
