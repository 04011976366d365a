"""NPU memory among the sessions of a process: a budget holds, idle contexts make room, busy ones stay."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ort_rknn
from ort_rknn.accounting import ledger
from ort_rknn.accounting.ledger import LEDGER
from tests.helpers.emulated_model import compiled_emulated
from tests.helpers.emulator import Emulator, Model, Tensor

PADDING = 1_000_000
FEED = {"x": np.ones((1, 8), np.float32)}
ONE = PADDING + 10_000
"""Bytes that are enough for one model, and not for two."""

Open = Callable[..., ort_rknn.InferenceSession]


def model(seed: int) -> Model:
    return Model((Tensor("x", "float16", (1, 8)),), (Tensor("y", "float16", (1, 3)),), seed=seed, padding=PADDING)


def right(seed: int) -> Any:
    return model(seed).answer([FEED["x"].astype(np.float16)])[0]


@pytest.fixture
def open_model(emulator: Emulator, tmp_path: Path) -> Iterator[Open]:
    """Opens model number ``seed`` on the emulated NPU."""
    with ExitStack() as opened:

        def session(seed: int, **options: Any) -> ort_rknn.InferenceSession:
            path = tmp_path / f"{seed}.onnx"
            compiled_emulated(model(seed)).save(path)
            chosen = {"device": "npu", "runtime_library": emulator.path, "target": "rk3588", **options}
            return opened.enter_context(ort_rknn.InferenceSession(path, providers=[("RKNNExecutionProvider", chosen)]))

        yield session
    assert LEDGER.used == 0


def weights(emulator: Emulator) -> int:
    return emulator.count("dma_bytes")


def test_a_budget_of_two_models_serves_three_in_turn(open_model: Open, emulator: Emulator) -> None:
    budget = 2 * ONE
    sessions = [open_model(seed, memory_budget=budget) for seed in range(3)]
    for turn in range(3):
        for seed, session in enumerate(sessions):
            np.testing.assert_array_equal(session.run(None, FEED)[0], right(seed))
            np.testing.assert_array_equal(session.submit(None, FEED).result(20)[0], right(seed))
            assert weights(emulator) <= 2 * PADDING + 1000, turn
    assert emulator.count("dma_peak") <= budget
    assert LEDGER.most <= budget
    assert sum(session.stats().npu_bytes > 0 for session in sessions) == 2
    assert not any(session.stats().notes for session in sessions), "no core is lost by it"
    assert sum(session.stats().given_back for session in sessions) >= 6


def test_three_at_once_wait_for_each_other(open_model: Open, emulator: Emulator) -> None:
    emulator.configure(latency_us=500)
    budget, failures = 2 * ONE, []
    sessions = [open_model(seed, memory_budget=budget) for seed in range(3)]

    def use(seed: int) -> None:
        try:
            for _ in range(20):
                np.testing.assert_array_equal(sessions[seed].run(None, FEED)[0], right(seed))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert emulator.count("dma_peak") <= budget


def test_a_busy_session_keeps_its_contexts(
    open_model: Open, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LEDGER, "_wait_s", 0.1)
    busy = open_model(0, memory_budget=ONE)
    emulator.configure(fault="rknn_run@1=hang")
    job = busy.submit(None, FEED)
    while not emulator.count("hanging"):
        threading.Event().wait(0.001)
    before = emulator.count("rknn_destroy")
    with pytest.raises(Exception, match=r"no NPU memory for .*taken by contexts at work.*Close a session, or raise"):
        open_model(1, memory_budget=ONE)
    assert emulator.count("rknn_destroy") == before
    emulator.release_hangs()
    np.testing.assert_array_equal(job.result(20)[0], right(0))
    late = open_model(1, memory_budget=ONE)
    np.testing.assert_array_equal(late.run(None, FEED)[0], right(1))


def test_a_call_that_finds_no_memory_fails_alone(
    open_model: Open, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LEDGER, "_wait_s", 0.05)
    one, other = (open_model(seed, memory_budget=ONE) for seed in range(2))
    emulator.configure(fault="rknn_run@1=hang")
    job = other.submit(None, FEED)
    while not emulator.count("hanging"):
        threading.Event().wait(0.001)
    with pytest.raises(ort_rknn.NpuMemoryFull, match="at work"):
        one.run(None, FEED)
    with pytest.raises(ort_rknn.NpuMemoryFull, match="at work"):
        one.submit(None, FEED).result(20)
    emulator.release_hangs()
    job.result(20)
    np.testing.assert_array_equal(one.run(None, FEED)[0], right(0))
    assert not one.stats().notes


def test_a_model_larger_than_the_budget_is_refused_at_once(open_model: Open) -> None:
    with pytest.raises(Exception, match=r"memory_budget is 0\.5 MB: raise it"):
        open_model(0, memory_budget=500_000)


def test_further_cores_do_without_where_memory_is_short(open_model: Open, emulator: Emulator) -> None:
    """Contexts that load their own weights: there is room for two of three."""
    session = open_model(0, memory_budget=2 * ONE, disable_dup_context=True, share_weights=False, threads_per_core=1)
    emulator.configure(latency_us=2000)
    for job in [session.submit(None, FEED) for _ in range(12)]:
        np.testing.assert_array_equal(job.result(20)[0], right(0))
    assert emulator.count("dma_peak") <= 2 * ONE
    stats = session.stats()
    assert stats.open_contexts == 2
    assert not stats.notes


def test_pinned_jobs_go_elsewhere_where_their_core_has_no_memory(open_model: Open, emulator: Emulator) -> None:
    session = open_model(
        0, memory_budget=2 * ONE, disable_dup_context=True, share_weights=False, schedule=[0, 1, 2], threads_per_core=1
    )
    emulator.configure(latency_us=2000)
    for job in [session.submit(None, FEED) for _ in range(12)]:
        np.testing.assert_array_equal(job.result(20)[0], right(0))
    assert not session.stats().notes


def test_the_runtime_itself_has_no_memory(open_model: Open, emulator: Emulator) -> None:
    """Without a budget that knows it: another process may have taken it."""
    emulator.errors_are_meant = True
    emulator.configure(memory=weights(emulator) + ONE)
    sessions = [open_model(seed) for seed in range(2)]
    for _ in range(2):
        for seed, session in enumerate(sessions):
            np.testing.assert_array_equal(session.run(None, FEED)[0], right(seed))
    assert not any(session.stats().notes for session in sessions)


def test_the_least_budget_holds_while_its_session_lives(open_model: Open) -> None:
    before = LEDGER.budget
    with open_model(0, memory_budget="3M") as session:
        assert LEDGER.budget == 3_000_000
        open_model(1, memory_budget="1GiB")
        assert LEDGER.budget == 3_000_000
        session.run(None, FEED)
    del session
    assert before == ledger.default_budget()


def test_what_a_session_has(open_model: Open) -> None:
    session = open_model(0)
    size = len(model(0).data())
    assert session.stats().npu_bytes == size + 4096
    assert session.stats().open_contexts == 1
    jobs = [session.submit(None, FEED) for _ in range(6)]
    for job in jobs:
        job.result(20)
    stats = session.stats()
    assert stats.npu_bytes == size + 4096 * stats.open_contexts, "weights once"
