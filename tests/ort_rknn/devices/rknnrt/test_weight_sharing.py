"""Weights that several contexts, devices and sessions share: loaded once, and there as long as anybody uses them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ort_rknn.devices.rknnrt.device import NpuDevice
from ort_rknn.errors import DeviceError
from tests.helpers.emulated_npu import File, feeds, npu, same, segment
from tests.helpers.emulator import Emulator, Model, Tensor

ONE = Model((Tensor("x", "float16", (1, 3, 8, 8), "nhwc"),), (Tensor("y", "float16", (1, 10)),))


def test_weights_that_are_shared_outlive_whoever_loaded_them(emulator: Emulator, kind: str) -> None:
    code, device = segment(ONE), npu(emulator)
    first = device.open(code, 1)
    second = device.open(code, 2, first)
    third = device.open(code, 4, second)
    first.close()
    second.close()
    assert first.handle == 0
    assert emulator.count("contexts") == 3
    assert device.relative(code) is third
    same(third.run(feeds(code)), ONE.answer(feeds(code)))
    with pytest.raises(DeviceError, match="closed"):
        first.run(feeds(code))
    assert device.open(code, 1, first).handle, "its weights are there yet"
    assert emulator.count("rknn_init") == 1
    third.close()
    device.close()
    assert emulator.count("contexts") == 0
    assert device.open(code, 1, first).handle
    assert emulator.count("rknn_init") == 2
    device.close()


def test_sessions_share_weights(emulator: Emulator, kind: str) -> None:
    """Three devices, as three sessions have them; whoever loaded the weights goes first."""
    model = Model((Tensor("x", "float16", (1, 8)),), (Tensor("y", "float16", (1, 3)),), padding=100_000)
    code = segment(model)
    before = emulator.count("dma_bytes")
    devices = [npu(emulator, share_weights=True) for _ in range(3)]
    first = devices[0].open(code, 1)
    weights = emulator.count("dma_bytes") - before
    assert weights > 0
    again = segment(model)  # the same bytes, read another time
    second = devices[1].open(again, 2)
    sibling = devices[1].open(again, 4, second)
    assert emulator.count("dma_bytes") - before == weights
    assert emulator.count("rknn_dup_context") == 0, "the vendor's flag, also for a session's further contexts"
    devices[0].close()
    third = devices[2].open(code)
    assert emulator.count("dma_bytes") - before == weights
    for context in (second, sibling, third):
        same(context.run(feeds(code)), model.answer(feeds(code)))
    with pytest.raises(DeviceError, match="closed"):
        first.run(feeds(code))
    alone = npu(emulator).open(code)
    assert emulator.count("dma_bytes") - before == 2 * weights, "who does not ask does not share"
    alone.close()
    other = devices[2].open(segment(Model(model.inputs, model.outputs, seed=1)))
    assert emulator.count("rknn_init") == 6, "another model"
    for context in (sibling, second, third, other):
        context.close()
    assert emulator.count("contexts") == 0


def test_weights_that_cannot_be_shared(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    code = segment(ONE)
    one, two = (npu(emulator, share_weights=True) for _ in range(2))
    first = one.open(code)
    emulator.configure(fault="rknn_init@1x2=-5")
    second = two.open(code)
    assert "loaded once more: rknn_init failed" in caplog.text
    first.close()
    same(second.run(feeds(code)), ONE.answer(feeds(code)))
    emulator.configure(fault="rknn_query@1=-1")
    with pytest.raises(DeviceError):
        one.open(code)
    second.close()
    assert emulator.count("contexts") == 0


def test_one_file_by_two_names(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "one.rknn").write_bytes(ONE.data())
    (tmp_path / "two.rknn").hardlink_to(tmp_path / "one.rknn")
    contexts = [
        npu(emulator, share_weights=True).open(segment(ONE, File(str(tmp_path / name))))
        for name in ("one.rknn", "two.rknn")
    ]
    assert contexts[1].lender is contexts[0]
    for context in contexts:
        context.close()


def test_threads_that_open_one_model_at_once_load_it_once(emulator: Emulator, kind: str) -> None:
    """Each as a session of its own would; the first takes long to load."""
    model = Model((Tensor("x", "float16", (1, 8)),), (Tensor("y", "float16", (1, 3)),), padding=100_000)
    before, together, contexts = emulator.count("dma_bytes"), threading.Barrier(8), []
    devices = [npu(emulator, share_weights=True) for _ in range(8)]
    emulator.configure(fault="rknn_init@1x1=hang")

    def open_one(device: NpuDevice) -> None:
        code = segment(model)
        together.wait(10)
        contexts.append((device.open(code), code))

    threads = [threading.Thread(target=open_one, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    while not emulator.count("rknn_init"):
        time.sleep(0.001)
    assert emulator.count("rknn_init") == 1, "the others wait for it"
    emulator.release_hangs()
    for thread in threads:
        thread.join(20)
    assert len(contexts) == 8
    assert emulator.count("dma_bytes") - before == len(model.data()), "the weights once"
    for context, code in contexts:
        same(context.run(feeds(code)), model.answer(feeds(code)))
    for device in devices:
        device.close()
    assert emulator.count("contexts") == 0
