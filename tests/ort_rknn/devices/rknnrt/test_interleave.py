"""NCHW to NHWC in native code, which has a loop of its own for pictures on each kind of processor."""

from __future__ import annotations

import numpy as np
import pytest

from ort_rknn.devices.rknnrt.native_calls import NativeLibrary
from tests.helpers.emulated_npu import build_native


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


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 16, 17, 40])
@pytest.mark.parametrize("points", [1, 5, 7, 8, 9, 31, 1000, 174_763])  # the last: of three channels, above 1 MB
def test_floats_become_halves_on_the_way(channels: int, points: int) -> None:
    native = NativeLibrary(build_native())
    if not native.halves:
        pytest.skip("this processor has no instruction for it")
    random = np.random.default_rng(points)
    values = random.standard_normal((channels, points)) * 10.0 ** random.integers(-9, 7, (channels, points))
    special = [0.0, -0.0, np.inf, -np.inf, 65504, 65519.99, 65520, 6e-8, 2.98e-8, 2.99e-8, 1 + 2**-11, 1 + 3 * 2**-11]
    values.reshape(-1)[: len(special)] = special[: values.size]
    planes = values.astype(np.float32)
    room = np.zeros((points + 1, channels), np.float16)
    native.short.ort_rknn_interleave_half(planes.ctypes.data, room.ctypes.data, channels, points)
    with np.errstate(over="ignore"):
        assert room[:points].tobytes() == planes.astype(np.float16).T.tobytes()
    assert not room[points:].tobytes().strip(b"\0"), "written beyond the end"
