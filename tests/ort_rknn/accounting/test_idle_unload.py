"""Sessions that nobody uses give their NPU memory back, and open again at their next call."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import ort_rknn
from ort_rknn.accounting.idle_unload import IDLE, IdleUnload
from ort_rknn.accounting.ledger import LEDGER
from tests.helpers.emulated_model import compiled_emulated
from tests.helpers.emulator import Emulator, Model, Tensor

MODEL = Model((Tensor("x", "float16", (1, 8)),), (Tensor("y", "float16", (1, 3)),), padding=100_000)
FEED = {"x": np.ones((1, 8), np.float32)}
HOUR = 3600


class Watched:
    """A holder that counts."""

    def __init__(self, last_used: float) -> None:
        self.last_used = last_used
        self.gave: list[bool] = []

    def give_back(self, *, everything: bool) -> int:
        self.gave.append(everything)
        return 1


@pytest.fixture
def session(emulator: Emulator, tmp_path: Path) -> Iterator[Callable[..., ort_rknn.InferenceSession]]:
    opened: list[ort_rknn.InferenceSession] = []

    def make(**options: object) -> ort_rknn.InferenceSession:
        compiled_emulated(MODEL).save(tmp_path / "model.onnx")
        chosen = {"device": "npu", "runtime_library": emulator.path, "target": "rk3588", **options}
        opened.append(ort_rknn.InferenceSession(tmp_path / "model.onnx", providers=[("RKNNExecutionProvider", chosen)]))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.002)


def test_each_holder_has_its_own_time() -> None:
    idle, now = IdleUnload(), float(int(time.monotonic()))
    one, other = Watched(now - 50), Watched(now - 5)
    idle.watch(one, HOUR)
    idle.watch(other, 2 * HOUR)
    assert idle.look(now) == HOUR - 50
    assert idle.look(now + HOUR) == HOUR - 5
    assert (one.gave, other.gave) == ([True], [])
    other.last_used = now + HOUR
    idle.forget(one)
    assert idle.look(now + 2 * HOUR) == HOUR
    assert other.gave == []
    idle.forget(other)
    assert idle.look(now) is None


def test_memory_is_back_after_a_while_and_the_next_call_opens_again(
    session: Callable[..., ort_rknn.InferenceSession], emulator: Emulator
) -> None:
    before = emulator.count("dma_bytes")
    one = session(idle_unload_s=0.05)
    [right] = one.run(None, FEED)
    for _ in range(2):
        for job in [one.submit(None, FEED) for _ in range(6)]:
            np.testing.assert_array_equal(job.result(20)[0], right)
        wait_for(lambda: emulator.count("contexts") == 0)
        assert emulator.count("dma_bytes") == before
        stats = one.stats()
        assert (stats.npu_bytes, stats.open_contexts) == (0, 0)
        assert stats.given_back > 0
        np.testing.assert_array_equal(one.run(None, FEED)[0], right)
        assert one.stats().npu_bytes > 100_000
    assert not one.stats().notes


def test_runs_on_shared_memory_give_theirs_back_too(
    session: Callable[..., ort_rknn.InferenceSession], emulator: Emulator
) -> None:
    one = session(idle_unload_s=0.05)
    [right] = one.run(None, FEED)
    binding = one.io_binding()
    binding.bind_ortvalue_input("x", ort_rknn.OrtValue.ortvalue_from_numpy(FEED["x"], "npu"))
    binding.bind_output("y", "npu")
    for _ in range(2):
        one.run_with_iobinding(binding)
        np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], right)
        wait_for(lambda: one.stats().open_contexts == 0)
    del binding
    gc.collect()


def test_by_default_memory_stays(session: Callable[..., ort_rknn.InferenceSession]) -> None:
    one = session()
    one.run(None, FEED)
    held = LEDGER.used
    assert held > 100_000
    IDLE.look(time.monotonic() + HOUR)
    assert LEDGER.used == held


def test_a_busy_session_is_not_unloaded(session: Callable[..., ort_rknn.InferenceSession], emulator: Emulator) -> None:
    one = session(idle_unload_s=HOUR)
    one.run(None, FEED)
    emulator.configure(fault="rknn_run@1=hang")
    job = one.submit(None, FEED)
    wait_for(lambda: emulator.count("hanging") == 1)
    closed = emulator.count("rknn_destroy")
    IDLE.look(time.monotonic() + 2 * HOUR)
    assert emulator.count("rknn_destroy") == closed
    emulator.release_hangs()
    job.result(20)
    IDLE.look(time.monotonic() + 2 * HOUR)
    assert one.stats().open_contexts == 0
