"""The gated device: users' tests lean on it, so it has tests of its own."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ort_rknn.devices.base import Context, Device, SegmentCode, TensorSpec
from ort_rknn.devices.fake import FakeDevice, echo
from ort_rknn.errors import DeviceError
from tests.helpers.engines import LONG, Background, segment

X = np.arange(4, dtype=np.float32).reshape(1, 4)


def test_it_is_a_device() -> None:
    device = FakeDevice()
    assert isinstance(device, Device)
    assert isinstance(device.open(segment()), Context)
    assert device.describe()["contexts"] == 1


def test_an_inference_waits_at_its_gate() -> None:
    device = FakeDevice()
    context = device.open(segment(), 2)
    call = Background(lambda: context.run([X]))
    seen = device.gate(0).wait_started(LONG)
    assert call.blocks()
    assert (seen.number, seen.key, seen.core, seen.context, seen.segment) == (0, 0, 1, 0, "npu_0")
    assert seen.thread == call.thread.name
    device.gate(0).open()
    np.testing.assert_array_equal(call.result()[0], X)
    assert device.calls == [seen]


def test_a_gate_may_be_opened_before() -> None:
    device = FakeDevice(key=lambda inputs: float(inputs[0][0, 1]))
    assert not device.gate(1.0).started
    device.gate(1.0).open()
    assert device.open(segment()).run([X])


def test_failures_look_like_the_vendors() -> None:
    device = FakeDevice()
    context = device.open(segment())
    device.gate(0).fail(-2)
    with pytest.raises(DeviceError, match=r"rknn_run failed with RKNN_ERR_TIMEOUT \(-2\)") as caught:
        context.run([X])
    assert (caught.value.call, caught.value.code, caught.value.code_name) == ("rknn_run", -2, "RKNN_ERR_TIMEOUT")
    device.gate(1).fail(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        context.run([X])


def test_waiting_for_an_inference_that_never_comes() -> None:
    with pytest.raises(TimeoutError, match="no inference arrived"):
        FakeDevice().gate(0).wait_started(0)


def test_open_all_opens_gates_to_come() -> None:
    device = FakeDevice()
    context = device.open(segment())
    waiting = Background(lambda: context.run([X]))
    device.gate(0).wait_started(LONG)
    device.open_all()
    assert waiting.result()
    assert device.gate("later")._opened.is_set()


def test_contexts_can_be_refused() -> None:
    device = FakeDevice()
    device.refuse(2)
    device.open(segment(), 1)
    with pytest.raises(DeviceError, match="core mask 0x2"):
        device.open(segment(), 2)
    device.refuse(4, MemoryError())
    with pytest.raises(MemoryError):
        device.open(segment(), 4)


def test_outputs_that_are_not_wanted_are_none() -> None:
    device = FakeDevice(gated=False)
    outputs = device.open(segment(outputs=["y", "k"])).run([X], [False, True])
    assert outputs[0] is None
    assert outputs[1] is not None


def test_misuse_is_written_down() -> None:
    device = FakeDevice()
    context = device.open(segment())
    first = Background(lambda: context.run([X]))
    device.gate(0).wait_started(LONG)
    with pytest.raises(DeviceError, match="two threads"):
        context.run([X])
    context.close()
    device.open_all()
    first.result()
    with pytest.raises(DeviceError, match="after it was closed"):
        context.run([X])
    other = device.open(segment())
    with pytest.raises(DeviceError, match="got 2 inputs for 1"):
        other.run([X, X])
    with pytest.raises(DeviceError, match=r"input x: got float64\(1, 4\)"):
        other.run([X.astype(np.float64)])
    assert not device.wait_closed(0)
    device.close()
    assert len(device.misuse) == 6
    other.close()
    assert device.wait_closed(0)


def test_echo_fits_every_output() -> None:
    code = SegmentCode(
        "s",
        (TensorSpec("x", np.dtype("float32"), (1, 4)),),
        (TensorSpec("a", np.dtype("int64"), (2, 3)), TensorSpec("b", np.dtype("bool"), ())),
        "",
        "fp16",
        None,
        None,
    )
    outputs = echo(code, [X])
    assert [(array.dtype.name, array.shape) for array in outputs] == [("int64", (2, 3)), ("bool", ())]
    assert outputs[0].tolist() == [[0, 1, 2], [3, 0, 1]]


def test_compute_of_ones_own() -> None:
    device = FakeDevice(gated=False, compute=lambda code, inputs: [inputs[0] + len(code.name)])
    outputs = device.open(segment()).run([X])
    np.testing.assert_array_equal(outputs[0], X + 5)
    assert device.calls[0].thread_id == threading.get_ident()
