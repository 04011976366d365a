"""Runs on shared memory on the emulated runtime: layouts, dma-bufs, cores, failures, nothing left behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ort_rknn.devices.rknnrt import bound_context
from ort_rknn.devices.rknnrt import memory as rknnrt_memory
from ort_rknn.devices.rknnrt.bound_context import BoundContext, Slot
from ort_rknn.devices.rknnrt.memory import NpuMemory
from ort_rknn.errors import DeviceError
from tests.helpers.emulated_npu import File, feeds, npu, same, segment
from tests.helpers.emulator import REAL, Emulator, Model, Tensor, real_path

MIXED = Model(
    (Tensor("img", "float16", (2, 5, 4, 3), "nhwc"), Tensor("ids", "int64", (3,)), Tensor("on", "bool", (2, 2))),
    (Tensor("y", "float16", (2, 3, 4, 5), "nchw"), Tensor("n", "int64", (7,)), Tensor("b", "bool", (9,))),
)
ONE = Model((Tensor("x", "float16", (1, 3, 8, 8), "nhwc"),), (Tensor("y", "float16", (1, 10)),))

QUANTIZED = Model(
    (Tensor("x", "int8", (1, 3, 6, 5), "nhwc", 0.25, 3),), (Tensor("y", "int8", (1, 4, 2, 3), "nchw", 0.5, -7),)
)


class Rig:
    """A bound context with memory for each slot."""

    def __init__(self, bound: BoundContext) -> None:
        self.bound = bound
        self.memories = [bound.room(slot) for slot in self.slots]

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (*self.bound.inputs, *self.bound.outputs)

    def infer(self, given: Sequence[np.ndarray]) -> list[Any]:
        for slot, memory, array in zip(self.bound.inputs, self.memories, given, strict=False):
            slot.view(memory)[...] = array
        self.bound.run(self.memories)
        outputs = self.memories[len(self.bound.inputs) :]
        return [slot.view(memory) for slot, memory in zip(self.bound.outputs, outputs, strict=True)]


def test_what_is_written_into_the_memory_is_computed(emulator: Emulator, kind: str) -> None:
    code = segment(MIXED)
    rig = Rig(npu(emulator).open(code).bind())
    for seed in range(3):
        given = feeds(code, seed)
        right, native = MIXED.answer(given), MIXED.answer(given, native=True)
        same(rig.infer(given), [right[0], native[1], native[2]])
    assert [slot.order for slot in rig.slots] == ["nhwc", "", "", "nchw", "", ""]
    assert emulator.count("mems") == 6
    assert emulator.count("rknn_set_io_mem") == 6, "once each, not for every run"
    assert emulator.count("copied_out") == 0
    rig.bound.close()
    rig.bound.close()
    with pytest.raises(DeviceError, match="closed"):
        rig.bound.run(rig.memories)


@pytest.mark.parametrize("name", ["image_fp16_rk3588", "tokens_fp16_rk3588"])
def test_real_files(emulator: Emulator, name: str) -> None:
    model = REAL[name]
    code = segment(model, File(str(real_path(name))))
    given = feeds(code)
    rig = Rig(npu(emulator).open(code).bind())
    right, native = model.answer(given), model.answer(given, native=True)
    same(rig.infer(given), [n if n.dtype == np.int64 else r for r, n in zip(right, native, strict=True)])
    rig.bound.close()


def test_quantized_values_are_floats_in_the_memory(emulator: Emulator) -> None:
    code = segment(QUANTIZED)
    rig = Rig(npu(emulator).open(code).bind())
    same(rig.infer(feeds(code)), QUANTIZED.answer(feeds(code)))
    rig.bound.close()


def test_a_camera_s_memory_as_input_and_a_display_s_as_output(emulator: Emulator) -> None:
    code = segment(ONE)
    (given,) = feeds(code)
    camera, display = os.memfd_create("camera"), os.memfd_create("display")
    os.ftruncate(camera, 640 + given.nbytes)
    os.ftruncate(display, 4096)
    bound = npu(emulator).open(code).bind()
    memories = [NpuMemory(camera, given.nbytes, 640), NpuMemory(display, 40)]
    os.close(camera)  # each memory has one of its own
    os.pwrite(memories[0].fd, given.transpose(0, 2, 3, 1).tobytes(), 640)  # a camera gives NHWC
    bound.run(memories)
    same([np.frombuffer(os.pread(display, 40, 0), np.float32).reshape(1, 10)], ONE.answer([given]))
    os.close(display)
    bound.close()


def test_memory_that_nobody_has_any_more_is_given_back(emulator: Emulator) -> None:
    device, code = npu(emulator), segment(ONE)
    bound = device.open(code).bind()
    other = device.open(code)
    given = feeds(code)
    for _ in range(3):
        one, two = device.allocate(given[0].nbytes), device.allocate(40)
        assert one is not None
        assert two is not None
        bound.inputs[0].view(one)[...] = given[0]
        bound.run([one, two])
        answer = bound.outputs[0].view(two)
        del one, two
        gc.collect()
        assert emulator.count("mems") == 0
        same([answer], ONE.answer(given))  # an array over it keeps the memory itself
    other.close()
    bound.close()


def test_memory_freed_in_another_thread_during_the_run(emulator: Emulator) -> None:
    device, code = npu(emulator), segment(ONE)
    bound, other = device.open(code).bind(), device.open(code)
    spare = [device.allocate(768), device.allocate(40)]
    bound.run([memory for memory in spare if memory is not None])
    rig = Rig(bound)
    emulator.configure(fault="rknn_run@1=hang")
    thread = threading.Thread(target=rig.infer, args=(feeds(code),))
    thread.start()
    while not emulator.count("hanging"):
        time.sleep(0.001)
    spare.clear()
    gc.collect()
    assert emulator.count("mems") == 4, "not while the NPU is at work"
    emulator.release_hangs()
    thread.join()
    assert emulator.count("mems") == 2
    bound.close()
    other.close()


@pytest.mark.parametrize("fault", ["rknn_create_mem@2=-4", ""])
def test_memory_that_is_not_behind_its_descriptor(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, fault: str, kind: str
) -> None:
    """Then the runtime's own allocation is used, and the context it belongs to lives as long."""
    code, device = segment(ONE), npu(emulator)
    context = device.open(code)
    if fault:  # it cannot be imported
        emulator.configure(fault=fault)
    else:
        wrong = os.memfd_create("wrong")
        os.ftruncate(wrong, 4096)
        monkeypatch.setattr(rknnrt_memory, "_descriptor", lambda _: wrong)
    memory = context.allocate(768)
    if not fault:
        os.close(wrong)
    assert memory is not None
    assert (memory.fd, memory.offset) == (-1, 0)
    array = memory.view(np.dtype(np.float32), (192,))
    array[:] = 3
    emulator.configure(fault="rknn_run@1=hang")
    thread = threading.Thread(target=context.run, args=(feeds(code),))
    thread.start()
    while not emulator.count("hanging"):
        time.sleep(0.001)
    del memory
    gc.collect()
    assert (array == 3).all()
    del array
    gc.collect()
    assert emulator.count("mems") == 1, "not while the NPU is at work"
    emulator.release_hangs()
    thread.join()
    assert context.describe()["memory"]
    assert emulator.count("mems") == 0
    context.close()


def test_what_cannot_be_bound(emulator: Emulator) -> None:
    code, device = segment(ONE), npu(emulator)
    context = device.open(code)
    with pytest.raises(DeviceError, match="cannot be mapped with 768 bytes: it is negative"):
        NpuMemory(-1, 768)
    with pytest.raises(DeviceError, match="at least one byte"):
        NpuMemory(0, 0)
    emulator.configure(fault="rknn_create_mem@1=-4")
    with pytest.raises(DeviceError, match="no memory of 768 bytes"):
        context.allocate(768)
    same(context.run(feeds(code)), ONE.answer(feeds(code)))
    bound = context.bind()
    with pytest.raises(DeviceError, match="bound already"):
        context.bind()
    with pytest.raises(DeviceError, match="bound to memory"):
        context.run(feeds(code))
    rig = Rig(bound)
    for fault, text in (
        ("rknn_create_mem@1=-4", "rknn_create_mem_from_fd failed"),
        ("rknn_set_io_mem@1=-5", "rknn_set_io_mem"),
        ("rknn_mem_sync@2=-1", "rknn_mem_sync"),
        ("rknn_run@1=-2", "RKNN_ERR_TIMEOUT"),
    ):
        emulator.configure(fault=fault)
        with pytest.raises(DeviceError, match=text):
            rig.infer(feeds(code))
    same(rig.infer(feeds(code)), ONE.answer(feeds(code)))
    bound.close()
    with pytest.raises(DeviceError, match="closed"):
        context.bind()
    assert device.allocate(40) is None, "nothing is open"


def test_two_threads_and_closing_while_one_runs(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound_context, "_PATIENCE", 0.05)
    code = segment(ONE)
    rig = Rig(npu(emulator).open(code).bind())
    rig.infer(feeds(code))
    emulator.configure(fault="rknn_run@1=hang")
    thread = threading.Thread(target=rig.bound.run, args=(rig.memories,))
    thread.start()
    while not emulator.count("hanging"):
        time.sleep(0.001)
    with pytest.raises(DeviceError, match="two threads"):
        rig.bound.run(rig.memories)
    rig.bound.context.close()  # what hangs keeps its context and its memory
    assert (emulator.count("contexts"), emulator.count("mems")) == (1, 2)
    emulator.release_hangs()
    thread.join()
    rig.bound.close()
