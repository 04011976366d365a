"""Segments on onnxruntime as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ort_rknn.devices.base import Context, Device, SegmentCode
from ort_rknn.devices.cpu import CpuDevice
from ort_rknn.errors import DeviceError
from tests.helpers.segment_models import gate_model, segment_of

X = np.array([[1.0, -2.0, 3.0, 0.1]], np.float32)


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_same_numbers_as_onnxruntime(tmp_path: Path, on_disk: bool) -> None:
    model = gate_model()
    device = CpuDevice()
    context = device.open(segment_of(model, tmp_path / "s.onnx" if on_disk else None))
    assert isinstance(device, Device)
    assert isinstance(context, Context)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": X})
    for got, want in zip(context.run([X]), expected, strict=True):
        assert got is not None
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    assert device.describe() == {"device": "cpu", "cores": 1}


def test_only_what_is_wanted() -> None:
    outputs = CpuDevice().open(segment_of(gate_model())).run([X], [False, True])
    assert outputs[0] is None
    assert outputs[1] is not None
    assert outputs[1].dtype == np.int64


def test_contexts_share_a_session_and_close_alone() -> None:
    device, code = CpuDevice(), segment_of(gate_model())
    first = device.open(code)
    second = device.open(code, share=first)
    assert second.session is first.session
    first.close()
    first.close()
    with pytest.raises(DeviceError, match="closed"):
        first.run([X])
    assert second.run([X])
    assert second.describe()["device"] == "cpu"
    device.close()


def test_a_stripped_segment_cannot_run() -> None:
    code = SegmentCode("npu_0", (), (), "rk3588", "fp16", None, None)
    with pytest.raises(DeviceError, match="npu_0 was saved without its ONNX"):
        CpuDevice().open(code)
