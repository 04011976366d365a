"""Float pictures as float16: handed over so where the NPU keeps them so, and never where the runtime refuses."""

from __future__ import annotations

import numpy as np
import pytest

from ort_rknn.devices.rknnrt.device import NpuDevice
from ort_rknn.devices.rknnrt.native_calls import native_library
from ort_rknn.opening.choose_device import DeviceOptions, choose
from tests.helpers.emulated_npu import build_native, feeds, npu, same, segment
from tests.helpers.emulator import Emulator, Model, Tensor

PICTURE = Tensor("x", "float16", (2, 3, 5, 7), "nhwc")
MODEL = Model((Tensor("n", "int64", (2,)), PICTURE), (Tensor("y", "float16", (1, 8)),))


@pytest.fixture(autouse=True)
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_NATIVE_LIBRARY", str(build_native()))
    library = native_library()
    if library is None or not library.halves:
        pytest.skip("this processor makes no float16")


def test_pictures_are_handed_over_as_halves(emulator: Emulator) -> None:
    code = segment(MODEL)
    device = npu(emulator)
    context = device.open(code)
    assert [plan.half for plan in context.io.inputs] == [False, True]
    assert context.io.inputs[1].size == 2 * 2 * 3 * 5 * 7
    given = feeds(code)
    given[1].reshape(-1)[:4] = 1e6, -1e6, 1e-7, 65519
    before = [array.copy() for array in given]
    same(context.run(given), MODEL.answer(given))
    same(given, before)
    device.close()


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("x", "float16", (2, 12)),
        Tensor("x", "float16", (2, 3, 5, 7), "nchw"),
        Tensor("x", "float16", (2, 1, 5, 7), "nhwc"),
        Tensor("x", "float32", (2, 3, 5, 7), "nhwc"),
        Tensor("x", "int8", (2, 3, 5, 7), "nhwc", 0.5, 3),
        Tensor("x", "uint8", (2, 3, 5, 7), "nhwc"),
    ],
    ids=str,
)
def test_what_is_not_turned_or_not_kept_so_stays_as_it_is(emulator: Emulator, tensor: Tensor) -> None:
    model = Model((tensor,), MODEL.outputs)
    code = segment(model)
    device = npu(emulator)
    sets = emulator.count("rknn_inputs_set")
    context = device.open(code)
    assert emulator.count("rknn_inputs_set") == sets
    assert not context.io.inputs[0].half
    given = feeds(code)
    same(context.run(given), model.answer(given))
    device.close()


def test_a_runtime_that_refuses_gets_floats(emulator: Emulator) -> None:
    emulator.configure(fault="rknn_inputs_set@1=-8")
    code = segment(MODEL)
    device = npu(emulator)
    given = feeds(code)
    first = device.open(code)
    second = device.open(code, share=first)
    for context in (first, second):
        assert not any(plan.half for plan in context.io.inputs)
        same(context.run(given), MODEL.answer(given))
    device.close()


def test_the_runtime_is_asked_once(emulator: Emulator) -> None:
    device = npu(emulator)
    sets = emulator.count("rknn_inputs_set")
    opened = [device.open(segment(MODEL)) for _ in range(3)]
    assert all(context.io.inputs[1].half for context in opened)
    assert emulator.count("rknn_inputs_set") == sets + 1
    device.close()


def test_it_can_be_switched_off(emulator: Emulator) -> None:
    made = choose("npu", DeviceOptions(target="rk3588", runtime_library=str(emulator.path), half_inputs=False)).device
    assert isinstance(made, NpuDevice)
    device = made
    sets = emulator.count("rknn_inputs_set")
    context = device.open(segment(MODEL))
    assert not context.io.inputs[1].half
    assert emulator.count("rknn_inputs_set") == sets
    device.close()


def test_without_the_native_library_floats_stay_floats(emulator: Emulator) -> None:
    device = npu(emulator, native=False)
    code = segment(MODEL)
    context = device.open(code)
    assert not context.io.inputs[1].half
    given = [np.ascontiguousarray(array) for array in feeds(code)]
    same(context.run(given), MODEL.answer(given))
    device.close()
