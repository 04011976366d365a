"""Zero copy on the emulated runtime: layouts, dma-bufs, cores, failures, nothing left behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ort_rknn.devices import rknnrt_buffers
from ort_rknn.devices.rknnrt_buffers import BoundContext
from ort_rknn.errors import DeviceError
from tests.helpers.emulator import REAL, Emulator, Model, Tensor, real_path
from tests.helpers.npu import File, feeds, npu, same, segment

MIXED = Model(
    (Tensor("img", "float16", (2, 5, 4, 3), "nhwc"), Tensor("ids", "int64", (3,)), Tensor("on", "bool", (2, 2))),
    (Tensor("y", "float16", (2, 3, 4, 5), "nchw"), Tensor("n", "int64", (7,)), Tensor("b", "bool", (9,))),
)
ONE = Model((Tensor("x", "float16", (1, 3, 8, 8), "nhwc"),), (Tensor("y", "float16", (1, 10)),))

QUANTIZED = Model(
    (Tensor("x", "int8", (1, 3, 6, 5), "nhwc", 0.25, 3),), (Tensor("y", "int8", (1, 4, 2, 3), "nchw", 0.5, -7),)
)


def fill(bound: BoundContext, given: Sequence[np.ndarray]) -> None:
    for spec, array in zip(bound.code.inputs, given, strict=True):
        bound.inputs[spec.name].array[...] = array


def answers(bound: BoundContext) -> list[Any]:
    return [bound.outputs[spec.name].array for spec in bound.code.outputs]


def test_what_is_written_into_the_buffers_is_computed(emulator: Emulator, kind: str) -> None:
    code = segment(MIXED)
    device = npu(emulator)
    context = device.open(code)
    sets = emulator.count("rknn_inputs_set")
    with context.bind_buffers() as bound:
        for seed in range(3):
            given = feeds(code, seed)
            fill(bound, given)
            bound.run()
            right, native = MIXED.answer(given), MIXED.answer(given, native=True)
            same(answers(bound), [right[0], native[1], native[2]])
        assert emulator.count("mems") == 6
        assert emulator.count("rknn_inputs_set") == sets
        assert all(buffer.fd >= 0 for buffer in (*bound.inputs.values(), *bound.outputs.values()))
    bound.close()
    assert bound.inputs["img"].array.size == 0
    with pytest.raises(DeviceError, match="closed"):
        bound.run()


@pytest.mark.parametrize("name", ["image_fp16_rk3588", "tokens_fp16_rk3588"])
def test_real_files(emulator: Emulator, name: str) -> None:
    model = REAL[name]
    code = segment(model, File(str(real_path(name))))
    given = feeds(code)
    with npu(emulator).open(code).bind_buffers() as bound:
        fill(bound, given)
        bound.run()
        right, native = model.answer(given), model.answer(given, native=True)
        same(answers(bound), [n if n.dtype == np.int64 else r for r, n in zip(right, native, strict=True)])


def test_quantized_values_are_floats_in_the_buffers(emulator: Emulator) -> None:
    code = segment(QUANTIZED)
    given = feeds(code)
    with npu(emulator).open(code).bind_buffers() as bound:
        fill(bound, given)
        bound.run()
        same(answers(bound), QUANTIZED.answer(given))


def test_a_camera_s_memory_as_input_and_a_display_s_as_output(emulator: Emulator) -> None:
    code = segment(ONE)
    (given,) = feeds(code)
    camera, display = os.memfd_create("camera"), os.memfd_create("display")
    os.ftruncate(camera, given.nbytes)
    os.ftruncate(display, 4096)
    with npu(emulator).open(code).bind_buffers({"x": camera, "y": display}) as bound:
        os.pwrite(camera, given.transpose(0, 2, 3, 1).tobytes(), 0)  # a camera gives NHWC
        bound.run()
        shown = np.frombuffer(os.pread(display, 40, 0), np.float32).reshape(1, 10)
        same([shown], ONE.answer([given]))
        same(answers(bound), ONE.answer([given]))
    os.close(camera)
    os.close(display)


def test_what_cannot_be_bound(emulator: Emulator) -> None:
    code, device = segment(ONE), npu(emulator)
    context = device.open(code)
    with pytest.raises(DeviceError, match="no input or output z"):
        context.bind_buffers({"z": 0})
    with pytest.raises(DeviceError, match="cannot be mapped with 768 bytes"):
        context.bind_buffers({"x": -1})
    for fault, text in (
        ("rknn_create_mem@2=-4", "rknn_create_mem failed"),
        ("rknn_set_io_mem@2=-5", "rknn_set_io_mem"),
    ):
        emulator.configure(fault=fault)
        with pytest.raises(DeviceError, match=text):
            context.bind_buffers()
        assert emulator.count("mems") == 0
    same(context.run(feeds(code)), ONE.answer(feeds(code)))
    bound = context.bind_buffers()
    with pytest.raises(DeviceError, match="bound already"):
        context.bind_buffers()
    with pytest.raises(DeviceError, match="bound to buffers"):
        context.run(feeds(code))
    emulator.configure(fault="rknn_run@1=-2")
    with pytest.raises(DeviceError, match="RKNN_ERR_TIMEOUT"):
        bound.run()
    bound.close()
    with pytest.raises(DeviceError, match="closed"):
        context.bind_buffers()


def test_four_threads_on_three_cores(emulator: Emulator) -> None:
    """Each thread has a context of its own, and all share the weights."""
    code, device = segment(ONE), npu(emulator)
    first = device.open(code, 1)
    contexts = [first, *(device.open(code, mask, first) for mask in (2, 4, 0))]
    bounds = [context.bind_buffers() for context in contexts]
    wrong: list[str] = []

    def serve(number: int) -> None:
        for seed in range(8):
            given = feeds(code, 10 * number + seed)
            fill(bounds[number], given)
            try:
                bounds[number].run()
                same(answers(bounds[number]), ONE.answer(given))
            except (AssertionError, DeviceError) as error:
                wrong.append(str(error))

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(4)]
    emulator.configure(fault="rknn_run@1x4=hang")
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while emulator.count("hanging") < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    together = emulator.count("hanging")
    emulator.release_hangs()
    for thread in threads:
        thread.join()
    assert not wrong
    assert together == 4, "all four at the same time"
    assert emulator.count("rknn_init") == 1
    device.close()
    for bound in reversed(bounds):
        bound.close()


def test_two_threads_and_closing_while_one_runs(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rknnrt_buffers, "_PATIENCE", 0.05)
    code = segment(ONE)
    bound = npu(emulator).open(code).bind_buffers()
    fill(bound, feeds(code))
    emulator.configure(fault="rknn_run@1=hang")
    thread = threading.Thread(target=bound.run)
    thread.start()
    while not emulator.count("hanging"):
        time.sleep(0.001)
    with pytest.raises(DeviceError, match="two threads"):
        bound.run()
    bound.context.close()  # what hangs keeps its context and its memory
    assert (emulator.count("contexts"), emulator.count("mems")) == (1, 2)
    emulator.release_hangs()
    thread.join()
    same(answers(bound), ONE.answer(feeds(code)))
    bound.close()
