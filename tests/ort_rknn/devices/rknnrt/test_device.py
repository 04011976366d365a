"""Device npu on the emulated runtime."""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ort_rknn.devices.base import Context, Device
from ort_rknn.devices.rknnrt import context as rknnrt_context
from ort_rknn.devices.rknnrt.device import NpuDevice
from ort_rknn.devices.settings import NpuSettings
from ort_rknn.errors import DeviceError, DeviceUnavailable
from tests.helpers.emulated_npu import Bytes, File, feeds, npu, same, segment
from tests.helpers.emulator import REAL, Emulator, Model, Tensor, real_path

MIXED = Model(
    (Tensor("img", "float16", (2, 5, 4, 3), "nhwc"), Tensor("ids", "int64", (3,)), Tensor("on", "bool", (2, 2))),
    (Tensor("y", "float16", (2, 3, 4, 5), "nchw"), Tensor("n", "int64", (7,)), Tensor("b", "bool", (9,))),
)
ONE = Model((Tensor("x", "float16", (1, 3, 8, 8), "nhwc"),), (Tensor("y", "float16", (1, 10)),))


def test_types_and_layouts(emulator: Emulator, kind: str) -> None:
    device = npu(emulator)
    assert isinstance(device, Device)
    code = segment(MIXED)
    context = device.open(code)
    assert isinstance(context, Context)
    for seed in range(3):
        given = feeds(code, seed)
        right = MIXED.answer(given)
        native = MIXED.answer(given, native=True)
        same(context.run(given), [right[0], native[1], native[2]])
    assert context.phases is not None
    assert all(phase >= 0 for phase in context.phases)
    assert bool(context.segment) == (kind == "native")
    context.close()
    context.close()
    with pytest.raises(DeviceError, match="closed"):
        context.run(given)


@pytest.mark.parametrize("name", REAL)
def test_real_files_by_path(emulator: Emulator, kind: str, name: str) -> None:
    model = REAL[name]
    code = segment(model, File(str(real_path(name))))
    context = npu(emulator, target=code.target).open(code)
    given = feeds(code)
    right, native = model.answer(given), model.answer(given, native=True)
    same(context.run(given), [n if n.dtype == np.int64 else r for r, n in zip(right, native, strict=True)])
    assert context.custom_string() == model.custom
    context.close()


def test_int8_file(emulator: Emulator, kind: str) -> None:
    """Values come out dequantized; the scales are the runtime's business."""
    model = REAL["image_fp16_rk3588"]
    code = segment(model, File(str(real_path("image_int8_rk3588"))))
    context = npu(emulator).open(code)
    y, z = context.run(feeds(code))
    assert y is not None
    assert z is not None
    assert (y.dtype, y.shape, z.shape) == (np.float32, (1, 4, 6, 5), (1, 4))
    assert len(np.unique(y)) > 20
    context.close()


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [("float16", "float16"), ("float16", "float64"), ("int64", "int32"), ("int8", "bool"), ("float16", "int64")],
)
def test_outputs_get_the_onnx_dtype(emulator: Emulator, kind: str, stored: str, dtype: str) -> None:
    model = Model((Tensor("x", "float16", (4,)),), (Tensor("y", stored, (40,)),))
    code = segment(model, dtypes={"y": dtype})
    context = npu(emulator).open(code)
    given = feeds(code)
    answer = model.answer(given, native=True)[0]
    right = np.rint(answer) if np.dtype(dtype).kind == "i" and answer.dtype.kind == "f" else answer
    same(context.run(given), [right.astype(dtype)])
    context.close()


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8", "int8", "int32", "uint64", "bool"])
def test_inputs_keep_their_values(emulator: Emulator, kind: str, dtype: str) -> None:
    code = segment(ONE, dtypes={"x": dtype})
    context = npu(emulator).open(code)
    given = [array.astype("uint8").astype(dtype) for array in feeds(segment(ONE))]
    same(context.run(given), ONE.answer([given[0].astype(np.float32)]))
    context.close()


def test_scalars_and_read_only_arrays(emulator: Emulator, kind: str) -> None:
    model = Model((Tensor("s", "float16", (1,)),), (Tensor("y", "float16", (1,)),))
    code = segment(model)
    scalar = type(code)(**{**vars(code), "inputs": (type(code.inputs[0])("s", np.dtype("float32"), ()),)})
    context = npu(emulator).open(scalar)
    given = np.array(3.5, np.float32)
    given.setflags(write=False)
    same(context.run([given]), model.answer([given.reshape(1)]))
    context.close()


def test_unwanted_outputs(emulator: Emulator, kind: str) -> None:
    context = npu(emulator).open(code := segment(MIXED))
    given = feeds(code)
    y, n, b = context.run(given, [False, True, False])
    assert y is None
    assert b is None
    same([n], [MIXED.answer(given, native=True)[1]])
    same(context.run(given)[:1], MIXED.answer(given)[:1])
    context.close()


def test_results_belong_to_the_caller(emulator: Emulator, kind: str) -> None:
    context = npu(emulator).open(code := segment(ONE))
    first_feed, second_feed = feeds(code, 1), feeds(code, 2)
    first, second = context.run(first_feed), context.run(second_feed)
    same(first, ONE.answer(first_feed))
    same(second, ONE.answer(second_feed))
    context.close()


def test_weights_are_shared(emulator: Emulator, kind: str) -> None:
    device = npu(emulator)
    code = segment(Model(ONE.inputs, ONE.outputs, padding=1_000_000))
    before = emulator.count("dma_bytes")
    first = device.open(code, 1)
    others = [device.open(code, 2, first), device.open(code, 4, first)]
    assert (emulator.count("rknn_init"), emulator.count("rknn_dup_context")) == (1, 2)
    assert emulator.count("dma_bytes") - before < 1_100_000
    given = feeds(code)
    for context in (first, *others):
        same(context.run(given), ONE.answer(given))
    assert [emulator.count(f"core{core}_runs") for core in range(3)] == [1, 1, 1]
    for context in (*others, first):
        context.close()


def test_a_busy_context_is_duplicated_between_two_inferences(emulator: Emulator, kind: str) -> None:
    emulator.configure(latency_us=2000)
    device = npu(emulator)
    first = device.open(code := segment(ONE), 1)
    given = feeds(code)
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            first.run(given)

    thread = threading.Thread(target=keep_busy)
    thread.start()
    others = [device.open(code, 2, first) for _ in range(3)]
    stop.set()
    thread.join()
    assert emulator.count("rknn_dup_context") == 3
    for context in (*others, first):
        context.close()


@pytest.mark.parametrize(
    ("call", "code"),
    [("rknn_inputs_set", -8), ("rknn_run", -2), ("rknn_outputs_get", -9), ("rknn_run", -77)],
)
def test_every_return_code_becomes_an_error(emulator: Emulator, kind: str, call: str, code: int) -> None:
    context = npu(emulator).open(item := segment(ONE))
    given = feeds(item)
    emulator.configure(fault=f"{call}@1={code}")
    with pytest.raises(DeviceError, match=rf"{call} failed: .*\({code}\)") as caught:
        context.run(given)
    error = caught.value
    assert (error.call, error.code) == (call, code)
    assert error.code_name == {-8: "RKNN_ERR_INPUT_INVALID", -2: "RKNN_ERR_TIMEOUT", -9: "RKNN_ERR_OUTPUT_INVALID"}.get(
        code, "error -77"
    )
    same(context.run(given), ONE.answer(given))
    context.close()


@pytest.mark.parametrize("call", ["rknn_init", "rknn_set_core_mask", "rknn_query"])
def test_a_failed_open_leaves_nothing(emulator: Emulator, kind: str, call: str) -> None:
    device = npu(emulator)
    first = device.open(code := segment(ONE), 1)
    emulator.configure(fault=f"{call}@1x2=-1")
    with pytest.raises(DeviceError, match="RKNN_ERR_FAIL"):
        device.open(code, 2)
    first.close()


def test_core_masks(emulator: Emulator) -> None:
    device = npu(emulator)
    code = segment(ONE)
    for asked, mask in ((0, 0), (1, 1), (2, 2), (4, 4), (3, 3), (7, 7), (0xFFFF, 7)):
        context = device.open(code, asked)
        assert context.mask == mask
        context.close()
    assert emulator.count("rknn_set_core_mask") == 6  # not for AUTO
    with pytest.raises(DeviceError, match=r"core 3 does not exist.*3 core"):
        device.open(code, 8)
    two = npu(emulator, target="rk3576")
    assert two.cores == 2
    with pytest.raises(DeviceError, match=r"core 2 does not exist.*rk3576.*2 core"):
        two.open(code, 4)


def test_one_core_chips_have_no_masks(emulator: Emulator) -> None:
    emulator.configure(cores=1)
    code = segment(ONE)
    one = npu(emulator, target="rk3566")
    for mask in (0, 1, 0xFFFF):
        context = one.open(segment(replace(ONE, target="rk3566")), mask)
        assert context.mask == 0
        context.close()
    assert emulator.count("rknn_set_core_mask") == 0
    wrong = npu(emulator)  # taken for a chip with three cores
    for mask in (1, 2):
        context = wrong.open(code, mask)
        assert context.mask == 0
        context.close()


def test_old_runtime_says_what_to_do(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    emulator.configure(api="2.2.0 (x@y)", driver="0.9.3")
    emulator.errors_are_meant = True
    device = npu(emulator)
    with caplog.at_level(logging.WARNING, "ort_rknn"):
        context = device.open(segment(ONE))
        context.close()
    assert [re.sub(r" .*", "", record.message) for record in caplog.records] == ["librknnrt", "the"]
    emulator.configure(max_version=5)
    path = real_path("image_fp16_rk3588")
    with pytest.raises(DeviceError) as caught:
        device.open(segment(REAL["image_fp16_rk3588"], File(str(path))))
    text = str(caught.value)
    assert "RKNN_ERR_MODEL_INVALID (-6)" in text
    assert "made by toolkit 2.5.0 for rk3588 (file format 6)" in text
    assert "version 2.2.0: it is older than the toolkit. Install librknnrt 2.5.0 or newer" in text


def test_model_for_another_soc(emulator: Emulator, tmp_path: Path) -> None:
    tree = tmp_path / "proc" / "device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(b"rockchip,rk3588\0")
    device = NpuDevice(NpuSettings(runtime_library=emulator.path), root=tmp_path)
    assert (device.target, device.cores) == ("rk3588", 3)
    with pytest.raises(DeviceError, match=r"compiled for rk3566, this board is rk3588: compile it for target 'rk3588'"):
        device.open(segment(REAL["image_fp16_rk3566"], File(str(real_path("image_fp16_rk3566")))))


def test_wrong_code_is_refused(emulator: Emulator) -> None:
    emulator.errors_are_meant = True
    device = npu(emulator)
    with pytest.raises(DeviceError, match="RKNN_ERR_MODEL_INVALID"):
        device.open(segment(ONE, Bytes(b"RKNN" + bytes(300))))
    other = Model((Tensor("x", "float16", (1, 3, 8, 9), "nhwc"),), ONE.outputs)
    with pytest.raises(DeviceError, match=r"input 'x': the compiled code has shape \[1, 8, 9, 3\]"):
        device.open(segment(ONE, Bytes(other.data())))
    with pytest.raises(DeviceError, match=r"1 input\(s\), the segment has 3"):
        device.open(segment(MIXED, Bytes(ONE.data())))
    stripped = segment(ONE)
    with pytest.raises(DeviceError, match="no compiled code"):
        device.open(type(stripped)(**{**vars(stripped), "rknn": None}))


def test_inputs_are_matched_by_name(emulator: Emulator) -> None:
    turned = Model(MIXED.inputs[::-1], MIXED.outputs)
    code = segment(MIXED, Bytes(turned.data()))
    context = npu(emulator).open(code)
    given = feeds(code)
    same(context.run(given)[1:2], turned.answer(given[::-1], native=True)[1:2])
    context.close()


def test_describe_and_memory(emulator: Emulator) -> None:
    device = npu(emulator, collect_perf=True, priority="low", sram=True)
    context = device.open(segment(Model(ONE.inputs, ONE.outputs, custom="hello")), 2)
    facts: dict[str, Any] = dict(context.describe())
    assert facts["core_mask"] == 2
    assert facts["memory"]["weights"] > 0
    assert context.custom_string() == "hello"
    context.run(feeds(context.code))
    assert "Emulated NPU" in context.perf_detail()
    assert context.run_duration() == 0
    assert device.describe()["cores"] == 3
    device.close()
    assert context.describe() == {"segment": "segment", "core_mask": 2, "native": bool(context.segment), "closed": True}
    with pytest.raises(ValueError, match="priority must be one of normal, high, medium, low"):
        npu(emulator, priority="urgent")


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, 0),
        ({"priority": "medium"}, 0x1),
        ({"priority": "low", "collect_perf": True}, 0xA),
        ({"sram": True}, 0x800),
        ({"share_sram": True}, 0x1800),
        ({"sram": True, "init_flags": 0x2000}, 0x2800),
    ],
)
def test_flags_of_a_context(emulator: Emulator, options: dict[str, Any], flags: int) -> None:
    device = npu(emulator, **options)
    device.open(segment(ONE))
    assert emulator.count("init_flags") == flags
    device.close()


def test_describing_what_is_at_work(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(rknnrt_context, "HOLD_NS", 10_000_000)
    context = npu(emulator).open(segment(ONE))
    emulator.configure(fault="rknn_run@1=hang")
    thread = threading.Thread(target=context.run, args=(feeds(context.code),))
    thread.start()
    while not emulator.count("hanging"):
        time.sleep(0.001)
    assert context.describe()["busy"], "the context is that thread's"
    emulator.release_hangs()
    thread.join()
    assert context.describe()["memory"]["weights"] > 0
    context.close()


def test_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = tmp_path / "librknnrt.so"
    with pytest.raises(DeviceUnavailable, match=rf"ORT_RKNN_RUNTIME_LIBRARY.*Tried: {missing} cannot be opened"):
        NpuDevice(NpuSettings(runtime_library=missing))
    monkeypatch.setenv("ORT_RKNN_RUNTIME_LIBRARY", str(missing))
    with pytest.raises(DeviceUnavailable, match="was not found"):
        NpuDevice()
    monkeypatch.delenv("ORT_RKNN_RUNTIME_LIBRARY")
    monkeypatch.setenv("ZTU_RKNPU2_RUNTIME_LIBRARY", "libm.so.6")
    with pytest.raises(DeviceUnavailable, match=r"libm.so.6 has no rknn_init: it is no librknnrt"):
        NpuDevice()
    monkeypatch.delenv("ZTU_RKNPU2_RUNTIME_LIBRARY")
    with pytest.raises(DeviceUnavailable, match="no Rockchip board"):
        NpuDevice(root=tmp_path)


def test_library_by_environment(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_RUNTIME_LIBRARY", str(emulator.path))
    assert NpuDevice().library.path == str(emulator.path)
