"""The vendor's simulator as a device: answers, refusals, and exactness about names, dtypes and shapes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from ort_rknn.devices.base import Context, Device, SegmentCode, TensorSpec
from ort_rknn.devices.toolkit import ToolkitDevice
from ort_rknn.errors import DeviceError, DeviceUnavailable
from ort_rknn_converters.errors import ToolkitMissing
from ort_rknn_converters.onnx_file.blobs import BytesBlob
from ort_rknn_converters.toolkit.setup import environment

DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"
F32 = np.dtype(np.float32)


def _digits() -> SegmentCode:
    return SegmentCode(
        "npu_0",
        (TensorSpec("image", F32, (1, 1, 8, 8)),),
        (TensorSpec("probabilities", F32, (1, 10)),),
        "rk3588",
        "fp16",
        None,
        BytesBlob(DIGITS.read_bytes()),
    )


@pytest.mark.toolkit
def test_answers_as_the_cpu_up_to_fp16() -> None:
    device = ToolkitDevice()
    assert isinstance(device, Device)
    context = device.open(_digits())
    assert isinstance(context, Context)
    image = np.random.default_rng(0).random((1, 1, 8, 8), F32)
    (got,) = context.run([image])
    session = onnxruntime.InferenceSession(DIGITS, providers=["CPUExecutionProvider"])
    (want,) = session.run(None, {"image": image})
    assert got is not None
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    np.testing.assert_allclose(got, want, atol=5e-3)
    assert not np.array_equal(got, want), "fp16 must show"
    assert context.run([image], [False]) == [None]
    assert context.describe()["simulated"]
    assert device.describe()["toolkit"]


@pytest.mark.toolkit
def test_dtypes_and_ranks_the_toolkit_does_not_know() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT16, [])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT16, [])
    graph = helper.make_graph([helper.make_node("Exp", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    half = np.dtype(np.float16)
    code = SegmentCode(
        "npu_0",
        (TensorSpec("x", half, ()),),
        (TensorSpec("y", half, ()),),
        "rk3588",
        "fp16",
        None,
        BytesBlob(model.SerializeToString()),
    )
    (got,) = ToolkitDevice().open(code).run([np.array(1, half)])
    assert got is not None
    assert (got.dtype, got.shape) == (half, ())
    assert float(got) == pytest.approx(np.e, rel=2e-3)


@pytest.mark.toolkit
def test_a_refusal_is_a_device_error() -> None:
    context = ToolkitDevice().open(dataclasses.replace(_digits(), target="rv1106"))  # it has no fp16
    with pytest.raises(DeviceError, match="npu_0: the toolkit refused"):
        context.run([np.zeros((1, 1, 8, 8), F32)])


def test_stripped_code_cannot_be_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find_python", lambda: None)
    with pytest.raises(DeviceError, match="stripped"):
        ToolkitDevice().open(dataclasses.replace(_digits(), onnx=None))


def test_no_toolkit_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ToolkitMissing(environment.MISSING)

    monkeypatch.setattr(environment, "find_python", missing)
    with pytest.raises(DeviceUnavailable, match="ort-rknn toolkit install"):
        ToolkitDevice().open(_digits())
