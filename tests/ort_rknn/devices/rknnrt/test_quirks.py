"""Runtimes with habits of their own: what the vendor's documents leave open must not matter."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
import pytest

from ort_rknn.devices.program import BoundNpuStep, Program
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import DeviceError
from ort_rknn_converters.onnx_file.blobs import FileBlob
from tests.helpers.emulated_npu import feeds, npu, same, segment
from tests.helpers.emulator import Emulator, Model, Tensor

INTEGERS = Model(
    (Tensor("ids", "int64", (3,)), Tensor("x", "float16", (1, 4))),
    (
        Tensor("n", "int64", (7,)),
        Tensor("i", "int32", (5,)),
        Tensor("b", "bool", (9,)),
        Tensor("y", "float16", (1, 10)),
        Tensor("q", "int8", (1, 6), "-", 0.5, 3),
    ),
)


def test_tensors_that_are_called_quantized_and_are_not(emulator: Emulator, kind: str) -> None:
    context = npu(emulator).open(code := segment(INTEGERS))
    given = feeds(code)
    right, native = INTEGERS.answer(given), INTEGERS.answer(given, native=True)
    same(context.run(given), [*native[:3], *right[3:]])
    context.close()


def test_outputs_in_the_runtime_s_own_memory(emulator: Emulator, kind: str) -> None:
    emulator.configure(own_outputs=1)
    context = npu(emulator).open(code := segment(INTEGERS))
    kept = []
    for seed in range(3):
        given = feeds(code, seed)
        right, native = INTEGERS.answer(given), INTEGERS.answer(given, native=True)
        kept.append((context.run(given), [*native[:3], *right[3:]]))
        same(context.run(given, [False, True, False, True, False])[1:2], native[1:2])
    for got, expected in kept:
        same(got, expected)
    context.close()


def test_a_context_in_use_is_not_destroyed(emulator: Emulator, kind: str) -> None:
    device = npu(emulator)
    context = device.open(code := segment(INTEGERS))
    given = feeds(code)
    emulator.configure(fault="rknn_run@1=hang")
    runs = emulator.count("rknn_run")
    thread = threading.Thread(target=context.run, args=(given,))
    thread.start()
    pause = threading.Event()
    while emulator.count("rknn_run") == runs:
        pause.wait(0.001)
    before = emulator.count("contexts")
    device.close()
    assert emulator.count("contexts") == before
    emulator.release_hangs()
    thread.join(10)
    assert not thread.is_alive()
    device.close()
    assert emulator.count("contexts") == before - 1


@pytest.mark.parametrize("code", [-1, -5, -13])
def test_a_runtime_without_core_masks(emulator: Emulator, code: int, caplog: pytest.LogCaptureFixture) -> None:
    emulator.configure(fault=f"rknn_set_core_mask@1x*={code}", latency_us=2000)
    compiled = segment(INTEGERS)
    parts = [BoundNpuStep("segment", ("ids", "x"), ("n", "i", "b", "y", "q"), compiled)]
    with caplog.at_level(logging.WARNING, "ort_rknn"):
        engine = Engine(Program.from_steps(parts, npu(emulator), outputs=("n",)), EngineOptions(schedule=(0, 1, 2)))
        feeds_of = [feeds(compiled, tag) for tag in range(12)]
        jobs = [engine.submit({"ids": ids, "x": x}) for ids, x in feeds_of]
        for job, given in zip(jobs, feeds_of, strict=True):
            np.testing.assert_array_equal(job.result(60)[0], INTEGERS.answer(given, native=True)[0])
    assert [record.message for record in caplog.records if "core masks" in record.message]
    assert len(caplog.records) == 1
    assert emulator.count("rknn_set_core_mask") == 1
    assert engine.plan().notes == ()
    engine.close()


def test_a_mask_refused_after_others_were_taken_is_an_error(emulator: Emulator) -> None:
    device = npu(emulator)
    device.open(code := segment(INTEGERS), 1).close()
    emulator.configure(fault="rknn_set_core_mask@1=-5")
    with pytest.raises(DeviceError, match=r"rknn_set_core_mask failed: .*Core mask 0x2"):
        device.open(code, 2)


def test_a_runtime_without_duplicates(emulator: Emulator, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    emulator.configure(fault="rknn_dup_context@1x*=-1")
    device = npu(emulator)
    first = device.open(code := segment(INTEGERS), 1)
    others = [device.open(code, mask, first) for mask in (2, 4)]
    given = feeds(code)
    for context in (first, *others):
        assert context.lender is None
        same(context.run(given)[:1], INTEGERS.answer(given, native=True)[:1])
    assert emulator.count("rknn_init") == 3
    (said,) = caplog.records
    assert "loaded once more: rknn_dup_context failed: RKNN_ERR_FAIL" in said.message
    device.close()


@pytest.mark.parametrize("by_path", [True, False])
def test_a_runtime_that_opens_only_bytes_or_only_files(emulator: Emulator, by_path: bool, tmp_path: Path) -> None:
    file = tmp_path / "code.rknn"
    file.write_bytes(INTEGERS.data())
    code = segment(INTEGERS, FileBlob(str(file)) if by_path else None)
    emulator.configure(fault="rknn_init@1=-5")
    context = npu(emulator).open(code)
    given = feeds(code)
    same(context.run(given)[:1], INTEGERS.answer(given, native=True)[:1])
    context.close()


def test_what_opens_neither_way_says_the_first_reason(emulator: Emulator) -> None:
    emulator.configure(fault="rknn_init@1=-5;rknn_init@2=-1")
    with pytest.raises(DeviceError, match="RKNN_ERR_PARAM_INVALID"):
        npu(emulator).open(segment(INTEGERS))
