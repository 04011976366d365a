"""``OrtValue`` in NPU memory: an ordinary value, whose content is a view of what the NPU sees."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest

import ort_rknn
from ort_rknn import OrtValue
from tests.helpers.emulated_npu import npu
from tests.helpers.emulator import Emulator, real_path

PICTURE = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


@pytest.fixture
def board() -> Iterator[Emulator]:
    """A machine with an NPU that a session uses."""
    emulator = Emulator()
    emulator.reset()
    with ort_rknn.InferenceSession(real_path("tokens_fp16_rk3588"), device=npu(emulator)):
        yield emulator


def test_on_the_cpu_it_is_onnxruntimes() -> None:
    mine, theirs = (one.ortvalue_from_numpy(PICTURE) for one in (OrtValue, onnxruntime.OrtValue))
    for one in (mine, theirs):
        assert isinstance(one, ort_rknn.OrtValue)
        assert isinstance(one, onnxruntime.OrtValue)
        assert one.data_ptr() == PICTURE.ctypes.data
    assert OrtValue.ortvalue_from_shape_and_type([2], np.float32).shape() == [2]
    assert not isinstance(PICTURE, ort_rknn.OrtValue)
    for make in (OrtValue.ortvalue_from_numpy, onnxruntime.OrtValue.ortvalue_from_numpy):
        with pytest.raises(Exception, match="Unsupported device type: tpu"):
            make(PICTURE, "tpu")
    with pytest.raises(ValueError, match="NPU memory"):
        OrtValue.ortvalue_from_shape_and_type([2], np.float32, layout="nhwc")


def test_without_an_npu_the_error_is_onnxruntimes() -> None:
    refusals = []
    for kind in (OrtValue, onnxruntime.OrtValue):
        with pytest.raises(Exception, match="Unsupported device") as refusal:
            kind.ortvalue_from_numpy(PICTURE, "npu")
        refusals.append((refusal.type, str(refusal.value)))
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "int8", "uint8", "bool"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc", None])
def test_it_answers_as_onnxruntimes(board: Emulator, dtype: str, layout: str | None) -> None:
    array = (PICTURE % 3).astype(dtype)
    mine, theirs = OrtValue.ortvalue_from_numpy(array, "npu", layout=layout), OrtValue.ortvalue_from_numpy(array)
    questions = ("shape", "data_type", "element_type", "has_value", "is_tensor", "is_sparse_tensor")
    newer = {"tensor_size_in_bytes", "__dlpack_device__"} & set(dir(theirs))  # not in onnxruntime 1.20
    for question in (*questions, "is_tensor_sequence", *newer):
        assert getattr(mine, question)() == getattr(theirs, question)(), question
    assert np.array_equal(mine.numpy(), array)
    assert np.array_equal(np.asarray(mine), array)
    assert np.array_equal(np.array(mine, np.float64), array)
    assert np.array_equal(np.from_dlpack(mine), array)
    assert np.array_equal(mine._get_c_value().numpy(), array)
    assert mine.device_name() == "npu"
    assert mine.layout == (layout or "nhwc")
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(mine)


def test_the_native_value_keeps_the_memory(board: Emulator) -> None:
    native = OrtValue.ortvalue_from_numpy(PICTURE, "npu", layout="nchw")._get_c_value()
    junk = [OrtValue.ortvalue_from_numpy(np.full_like(PICTURE, 9), "npu") for _ in range(20)]
    assert np.array_equal(native.numpy(), PICTURE)
    assert len(junk) == 20


def test_writing(board: Emulator) -> None:
    one = OrtValue.ortvalue_from_shape_and_type(PICTURE.shape, 1, "rknpu2")  # ONNX's number for float
    one.update_inplace(PICTURE.astype(np.int64))
    assert np.array_equal(one.numpy(), PICTURE)
    other = OrtValue.ortvalue_from_shape_and_type(PICTURE.shape, np.float32, "npu", layout="nchw")
    other.update_inplace(one)
    other.numpy()[0] = 7
    assert np.array_equal(other.numpy()[1], PICTURE[1])
    assert (other.numpy()[0] == 7).all()
    with pytest.raises(RuntimeError, match="has 3 elements"):
        one.update_inplace(np.zeros(3, np.float32))


def test_a_dmabuf_of_another_device(board: Emulator) -> None:
    camera = os.memfd_create("camera")
    os.ftruncate(camera, 64 + PICTURE.nbytes)
    os.pwrite(camera, PICTURE.transpose(0, 2, 3, 1).tobytes(), 64)
    frame = OrtValue.ortvalue_from_dmabuf(camera, PICTURE.shape, np.float32, offset=64)
    os.close(camera)
    assert np.array_equal(frame.numpy(), PICTURE)
    frame.numpy()[1, 2, 3, 4] = -1
    assert os.pread(frame.fileno(), 4, 64 + PICTURE.nbytes - 4) == np.float32(-1).tobytes()


def _makes(**how: Any) -> Any:
    return OrtValue.ortvalue_from_shape_and_type((1, 2), np.float32, "npu", **how)


def test_what_cannot_be_made(board: Emulator) -> None:
    with pytest.raises(RuntimeError, match="its device_id is 0, not 1"):
        _makes(device_id=1)
    with pytest.raises(ValueError, match="layout must be one of nchw, nhwc, not 'hwc'"):
        _makes(layout="hwc")
    with pytest.raises(RuntimeError, match="non-string numpy arrays"):
        OrtValue.ortvalue_from_numpy(np.array(["a"]), "npu")
    with pytest.raises(RuntimeError, match="cannot be mapped"):
        OrtValue.ortvalue_from_dmabuf(-1, (1, 2), np.float32)
    board.configure(fault="rknn_create_mem@1=-4")
    with pytest.raises(RuntimeError, match="no memory of 8 bytes"):
        _makes()
    assert _makes().shape() == [1, 2]
