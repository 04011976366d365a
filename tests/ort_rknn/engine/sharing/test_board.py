"""Several engines on one board: all cores are used, and contexts are few and given back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from ort_rknn.devices.program import BoundNpuStep, Program
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.options import EngineOptions
from ort_rknn.engine.sharing.board import Board, board_of
from ort_rknn.errors import DeviceError, InvalidOption
from tests.helpers.emulated_npu import build_native, npu, segment
from tests.helpers.emulator import Emulator, Model, Tensor
from tests.helpers.engines import LONG, our_threads

MODEL = Model((Tensor("x", "float16", (1, 4)),), (Tensor("y", "float16", (1, 4)),))
CODE = segment(MODEL)
FRAME = {"x": np.ones((1, 4), np.float32)}
New = Callable[..., Engine]


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setenv("ORT_RKNN_NATIVE_LIBRARY", str(build_native()))
    with Emulator().watched() as emulator:
        yield emulator


@pytest.fixture
def new_engine(emulator: Emulator) -> Iterator[New]:
    made: list[Engine] = []

    def make(device: dict[str, Any] | None = None, **options: Any) -> Engine:
        board = npu(emulator, **(device or {}))
        program = Program.from_steps([BoundNpuStep("s", ("x",), ("y",), CODE)], board, outputs=["y"])
        made.append(Engine(program, EngineOptions(**options), on_closed=board.close))
        return made[-1]

    yield make
    emulator.release_hangs()
    for engine in made:
        engine.close()
    assert our_threads() == []


def runs(emulator: Emulator) -> list[int]:
    return [emulator.count(f"core{core}_runs") for core in range(3)]


@pytest.mark.parametrize("native", [True, False])
def test_sessions_that_run_one_at_a_time_use_all_cores(new_engine: New, emulator: Emulator, native: bool) -> None:
    emulator.configure(latency_us=20_000)
    engines = [new_engine({"native": native}) for _ in range(3)]

    def work(engine: Engine) -> None:
        for _ in range(10):
            engine.run(FRAME)

    threads = [threading.Thread(target=work, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(runs(emulator)) == 30
    assert min(runs(emulator)) >= 30 / 4
    assert emulator.count("contexts") == 3, "one each"


def keep_busy(engines: list[Engine], until: Callable[[], bool], errors: list[BaseException]) -> None:
    stop = threading.Event()

    def work(engine: Engine) -> None:
        try:
            while not stop.is_set():
                engine.submit(FRAME)
            engine.wait_all(LONG)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    deadline, pause = time.monotonic() + LONG, threading.Event()
    while not until() and time.monotonic() < deadline:
        pause.wait(0.01)
    stop.set()
    for thread in threads:
        thread.join()


def test_a_session_alone_has_two_contexts_a_core(new_engine: New, emulator: Emulator) -> None:
    emulator.configure(latency_us=5000)
    errors: list[BaseException] = []
    keep_busy([new_engine()], lambda: emulator.count("contexts") == 6, errors)
    assert emulator.count("contexts") == 6
    assert errors == []


def test_crowded_sessions_share_two_contexts_a_core(new_engine: New, emulator: Emulator) -> None:
    emulator.configure(latency_us=5000)
    first, *others = [new_engine() for _ in range(5)]
    errors: list[BaseException] = []
    keep_busy([first], lambda: emulator.count("contexts") == 6 + 4, errors)
    keep_busy([first, *others], lambda: emulator.count("contexts") <= 6, errors)
    assert emulator.count("contexts") <= 6
    assert errors == []
    keep_busy([first], lambda: emulator.count("contexts") >= 6 + 4, errors)
    assert emulator.count("contexts") >= 10, "they come back when the others rest"
    for engine in (first, *others):
        stats = engine.stats()
        assert stats.accepted == stats.completed == sum(lane.tasks for lane in stats.lanes)


def test_a_burst_gets_its_contexts_beside_an_idle_session(new_engine: New, emulator: Emulator) -> None:
    emulator.configure(latency_us=100_000)
    engine, _ = new_engine(), new_engine()
    jobs = [engine.submit(FRAME) for _ in range(3)]
    for job in jobs:
        job.result(LONG)
    # A context is made of another one between two inferences of that, so the last may come after its job.
    deadline, pause = time.monotonic() + LONG, threading.Event()
    while emulator.count("contexts") < 3 + 1 and time.monotonic() < deadline:
        pause.wait(0.01)
    assert emulator.count("contexts") == 3 + 1


def test_contexts_that_were_asked_for_stay(new_engine: New, emulator: Emulator) -> None:
    emulator.configure(latency_us=5000)
    engines = [new_engine(threads_per_core=1) for _ in range(3)]
    errors: list[BaseException] = []
    keep_busy(engines, lambda: emulator.count("contexts") == 9, errors)
    assert emulator.count("contexts") == 9
    assert errors == []


def test_a_schedule_keeps_a_context_on_every_core(new_engine: New, emulator: Emulator) -> None:
    emulator.configure(latency_us=3000)
    engines = [new_engine(schedule=(0, 1, 2)) for _ in range(4)]
    errors: list[BaseException] = []
    keep_busy(engines, lambda: sum(runs(emulator)) > 300, errors)
    assert errors == []
    for engine in engines:
        opened = {lane.core for lane in engine.stats().lanes if lane.state != "cold"}
        assert opened == {0, 1, 2}


def test_the_driver_chooses_until_a_context_fails(new_engine: New, emulator: Emulator) -> None:
    engine = new_engine()
    job = engine.submit(FRAME)
    job.result(LONG)
    assert job.core == -1
    assert {lane.mask for lane in engine.plan().lanes} == {0}
    assert "chosen by the driver" in str(engine.plan())
    emulator.configure(fault="rknn_run@1=-1")
    with pytest.raises(DeviceError):
        engine.run(FRAME)
    job = engine.submit(FRAME)
    job.result(LONG)
    assert job.core == 0, "of its own now, so that a core that is broken is found"
    assert emulator.count("rknn_set_core_mask") == 1


def test_an_old_driver_is_told_the_cores(new_engine: New, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ort_rknn.devices.rknnrt.device.NpuDevice.spreads", False)
    emulator.configure(latency_us=1000)
    for engine in [new_engine() for _ in range(3)]:
        engine.run(FRAME)
    assert runs(emulator) == [1, 1, 1], "each session begins at another core"


def test_reserve_leaves_a_core(new_engine: New) -> None:
    with pytest.raises(InvalidOption, match=r"at most 2 of 3, not 3"):
        new_engine(reserve=3)
    with pytest.raises(InvalidOption, match="must not be negative"):
        EngineOptions(reserve=-1)


def test_high_goes_before_bulk(new_engine: New, emulator: Emulator) -> None:
    """Bulk keeps every core busy; with a core reserved, high never waits for it."""
    emulator.configure(latency_us=200_000)
    bulk, small = new_engine(max_queue_size=16), new_engine(priority="high", reserve=1)
    small.run(FRAME)
    jobs = [bulk.submit(FRAME) for _ in range(6)]
    pause = threading.Event()
    while emulator.count("rknn_run") < 3:
        pause.wait(0.001)
    begun = time.perf_counter()
    small.run(FRAME)
    took = time.perf_counter() - begun
    assert took < 0.35, "its own 200 ms, and nobody else's"
    small.close()
    for job in jobs:
        job.result(LONG)


def test_boards() -> None:
    class Device:
        cores = 2

    assert board_of(Device()) is None
    board = Board(3, None)
    sharer = board.join("normal", 0)
    assert sharer.gate() is None
    assert sharer.may_open(100), "nobody said whose contexts they are"
    assert [board.next_core() for _ in range(3)] != [board.next_core()] * 3
    sharer.leave()
    sharer.leave()
