"""Runtimes that answer nonsense, hang, or fail in silence: each is an error of ours, never a crash and never a wait."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from ort_rknn.devices.segment_checks import clamped_mask
from ort_rknn.devices.settings import NpuSettings
from ort_rknn.errors import DeviceError
from ort_rknn_conformance.doctor.board_models import read_dynamic
from tests.helpers.emulated_npu import Bytes, feeds, npu, same, segment
from tests.helpers.emulator import Emulator, Model, Tensor

ONE = Model((Tensor("x", "float16", (1, 3, 8, 8), "nhwc"),), (Tensor("y", "float16", (1, 10)),))
HANGS = ("rknn_init", "rknn_query", "rknn_set_core_mask", "rknn_destroy")


@pytest.mark.parametrize("count", [0xFFFFFFFF, 2])
def test_numbers_of_inputs_that_cannot_be(emulator: Emulator, kind: str, count: int) -> None:
    emulator.configure(in_out=count)
    with pytest.raises(DeviceError, match=rf"has {count} input\(s\), the segment has 1"):
        npu(emulator).open(segment(ONE))


def test_own_outputs_that_are_too_short(emulator: Emulator, kind: str) -> None:
    emulator.configure(own_outputs=1, short_outputs=4)
    context = npu(emulator).open(code := segment(ONE))
    with pytest.raises(DeviceError, match="rknn_outputs_get failed: RKNN_ERR_OUTPUT_INVALID"):
        context.run(feeds(code))
    emulator.configure(short_outputs=0)
    same(context.run(feeds(code)), ONE.answer(feeds(code)))
    context.close()


def test_memory_without_an_address(emulator: Emulator) -> None:
    context = npu(emulator).open(segment(ONE))
    emulator.configure(null_memory=1)
    with pytest.raises(DeviceError, match=r"rknn_create_mem gave 4096 bytes at address 0x0 for 4096 bytes"):
        context.allocate(100)
    assert emulator.count("mems") == 0
    context.close()


@pytest.mark.parametrize("offset", [-8, 1 << 20, (1 << 31) - 1])
def test_memory_that_begins_elsewhere(emulator: Emulator, offset: int) -> None:
    context = npu(emulator).open(segment(ONE))
    emulator.configure(offset=offset)
    memory = context.allocate(100)
    assert memory is not None
    assert memory.own is not None, "its file descriptor does not lead there"
    memory.view(np.dtype(np.uint8), (100,))[...] = 7
    del memory
    context.close()


@pytest.mark.parametrize("call", HANGS[:3])
def test_a_call_that_hangs_while_a_segment_is_opened(emulator: Emulator, kind: str, call: str) -> None:
    device = npu(emulator, open_timeout=0.3)
    before = emulator.count("contexts")
    emulator.configure(fault=f"{call}@1=hang")
    begun = time.monotonic()
    with pytest.raises(
        DeviceError, match=rf"{call} failed: RKNN_ERR_TIMEOUT \(-2\): it did not come back within 0.3 s"
    ):
        device.open(segment(ONE), 1)
    assert time.monotonic() - begun < 5
    emulator.release_hangs()
    pause = threading.Event()
    while emulator.count("contexts") != before or emulator.count("rknn_destroy") < 1:
        pause.wait(0.01)  # what comes too late is given back
    context = device.open(code := segment(ONE), 1)
    same(context.run(feeds(code)), ONE.answer(feeds(code)))
    context.close()


def test_a_context_that_cannot_be_destroyed(emulator: Emulator, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ort_rknn.devices.rknnrt.context.CLOSE_SECONDS", 0.2)
    context = npu(emulator).open(segment(ONE))
    emulator.configure(fault="rknn_destroy@1=hang")
    context.close()
    assert emulator.count("hanging") == 1
    before = emulator.count("contexts")
    emulator.release_hangs()
    pause = threading.Event()
    while emulator.count("contexts") == before:
        pause.wait(0.01)


STORED = {
    "float16": (
        "float32",
        "float16",
        "uint8",
        "int8",
        "int32",
        "int64",
        "int16",
        "uint16",
        "bool",
        "float64",
        "uint64",
    ),
    "int64": ("int64", "int32", "int16", "int8", "uint8", "bool", "float32"),
    "int8": ("float32", "int8", "int32", "int64", "uint8", "bool"),
}


@pytest.mark.parametrize("runtime", ["1.6.0", "2.3.2"])
@pytest.mark.parametrize("stored", STORED)
def test_no_type_is_handed_over_that_is_not_converted(emulator: Emulator, kind: str, stored: str, runtime: str) -> None:
    emulator.configure(runtime=runtime)
    device = npu(emulator)
    for layout, shape in (("nhwc", (1, 3, 4, 5)), ("-", (6,))):
        tensor = Tensor("x", stored, shape, layout, *((0.5, 3) if stored == "int8" else ()))
        model = Model((tensor,), (Tensor("y", "float16", (1, 10)),))
        for dtype in STORED[stored]:
            code = segment(model, dtypes={"x": dtype})
            given = np.arange(int(np.prod(shape))).reshape(shape) % 2 * 5
            context = device.open(code)
            values = given.astype(dtype)
            same(context.run([values]), model.answer([values.astype(np.float64)]))
            context.close()
    assert not emulator.count("errors")


def test_a_dynamic_model_that_nobody_called_so(emulator: Emulator, kind: str) -> None:
    emulator.configure(runtime="1.6.0")
    inputs = (Tensor("image", "float16", (1, 3, 8, 8), "nhwc"),)
    model = Model(inputs, (Tensor("features", "float16", (1, 8, 8, 8), "nchw"),))
    code = segment(model, Bytes(read_dynamic("rk3588")))
    assert not code.dynamic
    device = npu(emulator)
    first = device.open(code)
    second = device.open(code, 0, first)
    for context in (first, second):
        same(context.run(feeds(code)), model.answer(feeds(code)))
        context.close()


def test_weights_of_dynamic_models_are_not_shared_by_flag(emulator: Emulator, kind: str) -> None:
    text = (
        b"RKNNEMU 1\ntarget rk3588\ninput x float16 1,2,3,4|1,2,6,8 nhwc\noutput y float16 1,3,4|1,6,8\n" + b"\0" * 64
    )
    emulator.configure(runtime="1.6.0")
    shape = Model((Tensor("x", "float16", (1, 2, 6, 8), "nhwc"),), (Tensor("y", "float16", (1, 6, 8)),))
    code = replace(segment(shape, Bytes(text)), dynamic=True)
    first, second = npu(emulator, share_weights=True), npu(emulator, share_weights=True)
    contexts = [first.open(code), second.open(code)]
    assert contexts[1].lender is None
    for context in contexts:
        same(context.run(feeds(code)), shape.answer(feeds(code)))
        context.close()


def test_bool_outputs_on_a_runtime_that_does_not_know_them(emulator: Emulator, kind: str) -> None:
    model = Model(ONE.inputs, (*ONE.outputs, Tensor("b", "bool", (4,))))
    emulator.configure(runtime="1.6.0")
    with pytest.raises(
        DeviceError, match=r"output 'b' is BOOL, which librknnrt 1\.6\.0 does not know; install librknnrt"
    ):
        npu(emulator).open(segment(model))


@pytest.mark.parametrize(("cores", "mask"), [(3, 5), (3, 6), (2, 4), (3, 8)])
def test_masks_that_the_soc_does_not_take(cores: int, mask: int) -> None:
    with pytest.raises(DeviceError, match="does not exist"):
        clamped_mask(mask, cores, "rk3588")


def test_masks_that_the_soc_takes() -> None:
    assert [clamped_mask(mask, 3, None) for mask in (0, 1, 2, 4, 3, 7, 0xFFFF)] == [0, 1, 2, 4, 3, 7, 7]
    assert [clamped_mask(mask, 1, None) for mask in (0, 1, 0xFFFF)] == [0, 0, 0]


def test_times_are_not_asked_before_a_run(emulator: Emulator, kind: str) -> None:
    context = npu(emulator).open(code := segment(ONE))
    assert "run_s" not in context.describe()
    with pytest.raises(DeviceError, match="has not run yet"):
        context.run_duration()
    context.run(feeds(code))
    assert context.describe()["run_s"] == 0
    context.close()
    for ask in (context.memory, context.versions, context.custom_string):
        with pytest.raises(DeviceError, match="closed"):
            ask()


def test_outputs_bound_to_memory_have_room_for_rows_and_channels(emulator: Emulator) -> None:
    emulator.configure(runtime="1.6.0")
    model = Model(
        (Tensor("x", "int8", (1, 3, 40, 40), "nhwc", 0.25, 3),), (Tensor("y", "int8", (1, 1, 40, 40), "nchw", 0.5, -7),)
    )
    context = npu(emulator).open(code := segment(model))
    memory = context.allocate(40 * 40 * 4)
    assert memory is not None
    bound = context.bind()
    (given,), (taken,) = bound.inputs, bound.outputs
    assert taken.size == 16 * 40 * 48, "channels and width in whole blocks"
    assert memory.room == 8192
    source, target = bound.room(given), bound.room(taken)
    with pytest.raises(DeviceError, match=r"'y': the NPU may use 30720 bytes, and the memory has 8192"):
        bound.run([source, memory])
    (feed,) = feeds(code)
    given.view(source)[...] = feed
    bound.run([source, target])
    same([taken.view(target)], model.answer([feed]))
    bound.close()


def test_the_device_has_no_way_to_hand_over_nchw() -> None:
    with pytest.raises(TypeError):
        NpuSettings(nhwc=False)  # type: ignore[call-arg]
