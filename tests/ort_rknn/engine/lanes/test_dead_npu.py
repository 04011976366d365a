"""A dead, a dying and a reviving NPU under native lanes: every accepted job ends, and close() comes to its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ort_rknn.devices.program import BoundNpuStep, Program
from ort_rknn.engine import job_manager
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.job import InferenceJob
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import DeviceError, RknnError
from tests.helpers.emulated_npu import build_native, npu, segment
from tests.helpers.emulator import Emulator, Model, Tensor
from tests.helpers.engines import LONG, Background, our_threads

MODEL = Model((Tensor("x", "float16", (1, 4)),), (Tensor("y", "float16", (1, 4)),))
CODE = segment(MODEL)


def frame(tag: int) -> dict[str, Any]:
    return {"x": np.full((1, 4), tag, np.float32)}


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Emulator]:
    monkeypatch.setenv("ORT_RKNN_NATIVE_LIBRARY", str(build_native()))
    caplog.set_level(logging.CRITICAL, "ort_rknn")  # cores leave service all the time
    with Emulator().watched() as emulator:
        emulator.errors_are_meant = True
        yield emulator


def open_engine(emulator: Emulator, **options: Any) -> Engine:
    device = npu(emulator)
    program = Program.from_steps([BoundNpuStep("s", ("x",), ("y",), CODE)], device, outputs=["y"])
    return Engine(program, EngineOptions(**options), on_closed=device.close)


def storm(engine: Engine, threads: int = 4, each: int = 50) -> list[InferenceJob]:
    """Submit from several threads at once; every job that was accepted."""
    accepted: list[InferenceJob] = []

    def submit() -> None:
        for tag in range(each):
            accepted.append(engine.submit(frame(tag)))

    workers = [threading.Thread(target=submit) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LONG)
    return accepted


@pytest.mark.parametrize("call", ["rknn_run", "rknn_inputs_set", "rknn_outputs_get"])
@pytest.mark.parametrize("schedule", [None, (0, 1, 2)])
def test_every_job_on_a_dead_npu_ends(emulator: Emulator, call: str, schedule: tuple[int, ...] | None) -> None:
    emulator.configure(fault=f"{call}@1x*=-1")
    for _ in range(4):
        engine = open_engine(emulator, max_queue_size=64, schedule=schedule)
        jobs = storm(engine)
        assert len(jobs) == 200
        assert all(isinstance(job.exception(LONG), RknnError) for job in jobs)
        Background(engine.close).result()
        stats = engine.stats()
        assert (stats.accepted, stats.failed) == (200, 200)
    assert our_threads() == []


def test_every_job_on_a_dying_npu_ends(emulator: Emulator) -> None:
    emulator.configure(fault="rknn_run@60x*=-1")
    engine = open_engine(emulator, max_queue_size=64)
    jobs = storm(engine)
    errors = [job.exception(LONG) for job in jobs]
    assert sum(error is None for error in errors) == 59
    assert all(isinstance(error, RknnError) for error in errors if error is not None)
    Background(engine.close).result()


def test_an_npu_that_revives_is_used_again(emulator: Emulator) -> None:
    emulator.configure(fault="rknn_run@20x5=-1")
    engine = open_engine(emulator, max_queue_size=64)
    errors = [job.exception(LONG) for job in storm(engine)]
    assert sum(isinstance(error, DeviceError) for error in errors) == 5
    assert engine.run(frame(3))[0].shape == (1, 4)
    Background(engine.close).result()


def test_run_on_a_dead_npu_raises_in_every_thread(emulator: Emulator) -> None:
    emulator.configure(fault="rknn_run@1x*=-1")
    engine = open_engine(emulator)

    def run() -> int:
        failures = 0
        for tag in range(30):
            try:
                engine.run(frame(tag))
            except RknnError:
                failures += 1
        return failures

    assert [call.result() for call in [Background(run) for _ in range(4)]] == [30] * 4
    Background(engine.close).result()


def test_close_gives_up_an_npu_that_hangs(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_manager, "CLOSE_PATIENCE_S", 0.2)
    emulator.configure(fault="rknn_run@2x*=hang")
    engine = open_engine(emulator, schedule=(0,), threads_per_core=1)
    jobs = [engine.submit(frame(tag)) for tag in range(4)]
    assert jobs[0].exception(LONG) is None
    Background(engine.close).result()
    assert isinstance(jobs[1].exception(0), DeviceError)
    assert all(job.cancelled() for job in jobs[2:])
    with pytest.raises(RknnError, match="closed"):
        engine.submit(frame(9))
    emulator.release_hangs()
    pause = threading.Event()
    for _ in range(100):
        if not our_threads() and not emulator.count("hanging"):
            break
        pause.wait(0.05)
    assert our_threads() == []
