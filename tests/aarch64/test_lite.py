"""The real rknn-toolkit-lite2 behind device ``lite``, on the emulated runtime: what it gets wrong is guarded."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from ort_rknn.devices.base import Context, Device
from ort_rknn.devices.rknnrt.lite_device import LiteDevice
from ort_rknn.errors import DeviceError
from tests.helpers.emulated_npu import Bytes, File, feeds, same, segment
from tests.helpers.emulator import REAL, Emulator, Model, Tensor, real_path

MIXED = Model(
    (Tensor("img", "float16", (2, 5, 4, 3), "nhwc"), Tensor("ids", "int64", (3,)), Tensor("on", "bool", (2, 2))),
    (Tensor("y", "float16", (2, 3, 4, 5), "nchw"), Tensor("n", "int16", (7,)), Tensor("b", "bool", (9,))),
)
ONE = Model((Tensor("x", "float16", (1, 3, 8, 8), "nhwc"),), (Tensor("y", "float16", (1, 10)),))
WIDE = Model((Tensor("x", "float16", (1, 4)),), (Tensor("y", "float16", (1, 4)), Tensor("k", "int64", (1, 4))))


def test_types_and_layouts(emulator: Emulator) -> None:
    device = LiteDevice()
    assert isinstance(device, Device)
    code = segment(MIXED)
    context = device.open(code)
    assert isinstance(context, Context)
    for seed in range(3):
        given = feeds(code, seed)
        right, native = MIXED.answer(given), MIXED.answer(given, native=True)
        same(context.run(given), [right[0], native[1], native[2]])
    assert context.phases is not None
    some = context.run(given, [False, True, False])
    assert (some[0], some[2]) == (None, None)
    assert "2.5.0" in str(context.describe())
    context.close()
    context.close()
    with pytest.raises(DeviceError, match="closed"):
        context.run(given)


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "-"])
def test_every_layout_of_images(emulator: Emulator, layout: str) -> None:
    """A plain ``inference`` turns data of 4 dimensions although nobody said that it is NHWC."""
    model = Model((Tensor("x", "float16", (1, 3, 6, 5), layout),), (Tensor("y", "float16", (1, 4, 2, 3), layout),))
    context = LiteDevice().open(segment(model))
    given = feeds(segment(model))
    same(context.run(given), model.answer(given))
    context.close()


@pytest.mark.parametrize("name", ["image_fp16_rk3588", "tokens_fp16_rk3588"])
def test_real_files_by_path(emulator: Emulator, name: str) -> None:
    code = segment(REAL[name], File(str(real_path(name))))
    context = LiteDevice().open(code, 4)
    given = feeds(code)
    first, *_ = context.run(given, [True, False])
    same([first], REAL[name].answer(given)[:1])
    assert emulator.count("core2_runs") == 1
    context.close()


def test_what_onnx_has_and_the_runtime_has_not(emulator: Emulator) -> None:
    model = Model((Tensor("x", "float16", (1,)),), (Tensor("y", "float16", (1,)),))
    code = segment(model, dtypes={"x": "float64", "y": "float64"})
    scalar = type(code)(
        **{**vars(code), "inputs": (type(code.inputs[0])("x", np.dtype("float64"), ()),), "outputs": code.outputs}
    )
    context = LiteDevice().open(scalar)
    value = np.array(2.5)
    same(context.run([value]), [model.answer([np.array([2.5], np.float32)])[0].astype(np.float64)])
    context.close()


def test_large_integers_are_refused(emulator: Emulator) -> None:
    code = segment(WIDE)
    context = LiteDevice().open(code)
    given = feeds(code)
    with pytest.raises(DeviceError, match=r"'k' is int64.*2\*\*24.*device='npu'"):
        context.run(given)
    same(context.run(given, [True, False])[:1], WIDE.answer(given)[:1])
    context.close()


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("rknn_run@1=-2", "rknn_run failed: RKNN_ERR_TIMEOUT"),
        ("rknn_inputs_set@1=-8", "RKNN_ERR_INPUT_INVALID"),
        ("rknn_outputs_get@1=-9", "RKNN_ERR_OUTPUT_INVALID"),
    ],
)
def test_failures_are_seen(emulator: Emulator, fault: str, text: str) -> None:
    code = segment(ONE)
    context = LiteDevice().open(code)
    given = feeds(code)
    emulator.configure(fault=fault)
    with pytest.raises(DeviceError, match=text):
        context.run(given)
    same(context.run(given), ONE.answer(given))
    context.close()


@pytest.mark.parametrize(
    ("fault", "text"), [("rknn_init@1=-6", "RKNN_ERR_MODEL_INVALID"), ("rknn_set_core_mask@1=-1", "core")]
)
def test_a_failed_opening_says_why_and_leaves_nothing(
    emulator: Emulator, capfd: pytest.CaptureFixture[str], fault: str, text: str
) -> None:
    emulator.configure(fault=fault)
    with pytest.raises(DeviceError, match=f"init_runtime failed.*says: .*{text}"):
        LiteDevice().open(segment(ONE), 1)
    assert capfd.readouterr() == ("", "")


def test_wrong_inputs_never_reach_the_runtime(emulator: Emulator) -> None:
    context = LiteDevice().open(segment(ONE))
    for wrong in (
        np.zeros((1, 3, 8, 9), np.float32),
        np.zeros((1, 3, 64), np.float32),
        np.zeros((1, 3, 8, 8), np.float64),
    ):
        with pytest.raises(DeviceError, match=r"input 'x' must be float32 \[1, 3, 8, 8\]"):
            context.run([wrong])
    with pytest.raises(DeviceError, match="0 input"):
        context.run([])
    assert emulator.count("rknn_inputs_set") == 0
    context.close()
    twisted = segment(Model(ONE.inputs, (Tensor("y", "float16", (1, 11)),)), Bytes(ONE.data()))
    with pytest.raises(DeviceError, match="output 'y'"):
        LiteDevice().open(twisted)


def test_cores(emulator: Emulator, board: Callable[..., None]) -> None:
    device, code = LiteDevice(), segment(ONE)
    for mask, cores in ((1, (0,)), (2, (1,)), (4, (2,)), (3, (0, 1)), (7, (0, 1, 2)), (0xFFFF, (0, 1, 2))):
        emulator.reset()
        context = device.open(code, mask)
        context.run(feeds(code))
        assert [core for core in range(3) if emulator.count(f"core{core}_runs")] == list(cores)
        context.close()
    with pytest.raises(DeviceError, match=r"core mask 0x6 does not exist"):
        device.open(code, 6)
    with pytest.raises(DeviceError, match="core 3 does not exist"):
        device.open(code, 8)
    board("rockchip,rk3566")
    emulator.configure(cores=1)
    small = segment(Model(ONE.inputs, ONE.outputs, target="rk3566"))
    context = LiteDevice().open(small, 1)  # a mask would make init_runtime fail there
    context.run(feeds(small))
    context.close()
    with pytest.raises(DeviceError, match="compiled for rk3588, this board is rk3566"):
        LiteDevice().open(code)


def test_three_objects_overlap(emulator: Emulator) -> None:
    device, code = LiteDevice(), segment(ONE)
    contexts = [device.open(code, 1 << core) for core in range(3)]
    given = [feeds(code, core) for core in range(3)]
    wrong: list[str] = []

    def serve(core: int) -> None:
        for _ in range(3):
            try:
                same(contexts[core].run(given[core]), ONE.answer(given[core]))
            except (AssertionError, DeviceError) as error:
                wrong.append(str(error))

    emulator.configure(fault="rknn_run@1x3=hang")
    threads = [threading.Thread(target=serve, args=(core,)) for core in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while emulator.count("hanging") < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    together = emulator.count("hanging")
    emulator.release_hangs()
    for thread in threads:
        thread.join()
    device.close()
    assert not wrong
    assert together == 3, "three inferences at the same time"


def test_one_object_for_two_threads_is_refused(emulator: Emulator) -> None:
    code = segment(ONE)
    context = LiteDevice().open(code)
    given = feeds(code)
    emulator.configure(fault="rknn_run@1=hang")
    thread = threading.Thread(target=context.run, args=(given,))
    thread.start()
    while not emulator.count("hanging"):
        time.sleep(0.01)
    with pytest.raises(DeviceError, match="two threads"):
        context.run(given)
    emulator.release_hangs()
    thread.join()
    same(context.run(given), ONE.answer(given))
    context.close()


def test_manners(emulator: Emulator, capfd: pytest.CaptureFixture[str]) -> None:
    code = segment(ONE)
    context = LiteDevice().open(code)
    context.run(feeds(code))
    context.describe()
    context.close()
    assert [logging.getLevelName(level) for level in (10, 20, 30, 40, 50)] == [
        "DEBUG",
        "INFO",
        "WARNING",
        "ERROR",
        "CRITICAL",
    ]
    assert logging.getLevelName("INFO") == 20
    assert capfd.readouterr() == ("", "")
