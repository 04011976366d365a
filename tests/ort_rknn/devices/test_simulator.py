"""The NPU in software: its numbers, its cores, its latency."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from ort_rknn.devices.base import Context, Device, SegmentCode
from ort_rknn.devices.simulator import SimulatorDevice
from ort_rknn.errors import DeviceError
from ort_rknn_converters.numerics.fp16_rounding import round_to_fp16
from tests.helpers.engines import LONG, Background
from tests.helpers.segment_models import cnn, gate_model, segment_of

X = np.random.default_rng(3).normal(size=(1, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_numbers_are_those_of_the_rounded_model(tmp_path: Path, on_disk: bool) -> None:
    model = cnn()
    context = SimulatorDevice().open(segment_of(model, tmp_path / "s.onnx" if on_disk else None))
    [got] = context.run([X])
    assert got is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    [expected] = onnxruntime.InferenceSession(round_to_fp16(model).SerializeToString(), options).run(None, {"x": X})
    [exact] = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": X})
    np.testing.assert_array_equal(got, expected)
    assert not np.array_equal(got, exact)
    np.testing.assert_allclose(got, exact, atol=2e-3)


def test_it_is_a_device() -> None:
    device = SimulatorDevice()
    context = device.open(segment_of(gate_model()), 2)
    assert isinstance(device, Device)
    assert isinstance(context, Context)
    assert context.describe()["mask"] == 2
    assert device.describe()["note"].startswith("simulated")
    device.close()


@pytest.mark.parametrize(("target", "cores"), [("rk3588", 3), ("RK3576", 2), ("rk3566", 1)])
def test_cores_of_the_target(target: str, cores: int) -> None:
    assert SimulatorDevice(target=target).cores == cores
    assert SimulatorDevice(8, target=target).cores == 8


def test_only_what_is_wanted() -> None:
    context = SimulatorDevice().open(segment_of(gate_model()))
    outputs = context.run([np.ones((1, 4), np.float32)], [False, True])
    assert outputs[0] is None
    assert outputs[1] is not None
    assert outputs[1].dtype == np.int64


def test_contexts_of_a_segment_share_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = SimulatorDevice._open_session
    monkeypatch.setattr(SimulatorDevice, "_open_session", lambda self, code: made.append(code) or original(self, code))
    device, code = SimulatorDevice(), segment_of(gate_model())
    first = device.open(code, 1)
    calls = [Background(lambda core=core: device.open(code, 1 << core, first)) for core in range(3)]
    assert {call.result().session for call in calls} == {first.session}
    assert made == [code]


def test_what_cannot_be_simulated() -> None:
    device = SimulatorDevice()
    with pytest.raises(DeviceError, match=r"stripped"):
        device.open(SegmentCode("npu_0", (), (), "rk3588", "fp16", None, None))
    with pytest.raises(DeviceError, match="compiled for w8a16; the in-process simulator has only fp16, int8, w4a16"):
        device.open(segment_of(gate_model(), precision="w8a16"))
    with pytest.raises(DeviceError, match="core mask 0x8 names a core that the 3-core simulator does not have"):
        device.open(segment_of(gate_model()), 8)


def test_latency_is_a_lower_bound_that_includes_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    context = SimulatorDevice(latency_s=0.5).open(segment_of(gate_model()))
    context.run([np.ones((1, 4), np.float32)])
    assert 0.3 < slept[0] < 0.5


@pytest.mark.parametrize(
    ("masks", "together"), [((1, 1), False), ((1, 2), True), ((0, 0), True), ((7, 2), False), ((0xFFFF, 0), False)]
)
def test_a_core_does_one_thing_at_a_time(
    monkeypatch: pytest.MonkeyPatch, masks: tuple[int, int], together: bool
) -> None:
    import threading

    inside = threading.Semaphore(0)
    leave = threading.Event()

    def sleep(_: float) -> None:
        inside.release()
        assert leave.wait(LONG)

    monkeypatch.setattr(time, "sleep", sleep)
    device, code = SimulatorDevice(3, latency_s=100.0), segment_of(gate_model())
    ones: Any = np.ones((1, 4), np.float32)
    calls = [Background(lambda mask=mask: device.open(code, mask).run([ones])) for mask in masks]
    assert inside.acquire(timeout=LONG)
    assert inside.acquire(timeout=LONG if together else 0.05) is together
    leave.set()
    for call in calls:
        call.result()


def test_a_segment_whose_onnx_contradicts_itself_is_said() -> None:
    model = cnn()
    del model.graph.value_info[:]  # so that its types are looked for
    model.graph.node.add(op_type="Relu", input=["x"])  # and gives nothing
    with pytest.raises(DeviceError, match="cannot be simulated: its ONNX in the compiled model is damaged"):
        SimulatorDevice().open(segment_of(model))
