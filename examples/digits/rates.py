"""How many digits a second: one after another and asynchronously, on one and on three pretend cores.

A pretend core computes nothing faster than this PC does; it takes a fixed time for each answer, as an NPU core would,
so what is seen is how well the engine keeps cores busy. It says nothing of a board's speed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ort_rknn as ort

LATENCY_MS = 5.0  # what a small network takes on a real core, a guess; long enough to hide this PC's own arithmetic
PER_CORE = 100  # answers per core and round: half a second
ROUNDS = 3


@dataclass(frozen=True)
class Rates:
    """Answers per second.

    Attributes:
        cores: Pretend cores.
        sync: ``run()``, one after another.
        asynchronous: ``run_async()``, as fast as the session takes them.
    """

    cores: int
    sync: float
    asynchronous: float

    @property
    def possible(self) -> float:
        """What the pretend cores can do at most."""
        return self.cores * 1000 / LATENCY_MS


def measure(
    model: Path, options: dict[str, Any], core_counts: Sequence[int], feeds: Sequence[dict[str, Any]]
) -> list[Rates]:
    """Measure both ways of calling a session, for each number of pretend cores.

    The numbers of cores take turns and the best round counts: whatever else runs on this PC only makes a round slower.
    """
    sessions = []
    try:
        for cores in core_counts:
            pretend = {**options, "simulator_cores": cores, "simulator_latency_ms": LATENCY_MS}
            providers = [("RKNNExecutionProvider", pretend), "CPUExecutionProvider"]
            sessions.append(ort.InferenceSession(model, providers=providers))
            sessions[-1].run(None, feeds[0])  # the first call of a session pays for more than itself
        best = [Rates(cores, 0, 0) for cores in core_counts]
        for _ in range(ROUNDS):
            for number, (cores, session) in enumerate(zip(core_counts, sessions, strict=True)):
                sync = _sync(session, feeds)
                asynchronous = _asynchronous(session, feeds, PER_CORE * cores)
                before = best[number]
                best[number] = Rates(cores, max(before.sync, sync), max(before.asynchronous, asynchronous))
        return best
    finally:
        for session in sessions:
            session.close()


def _sync(session: Any, feeds: Sequence[dict[str, Any]]) -> float:
    start = time.perf_counter()
    for number in range(PER_CORE):
        session.run(None, feeds[number % len(feeds)])
    return PER_CORE / (time.perf_counter() - start)


def _asynchronous(session: Any, feeds: Sequence[dict[str, Any]], count: int) -> float:
    """As onnxruntime's own run_async: the callback gets the outputs, the user data and an error text."""
    done = threading.Event()
    errors: list[str] = []
    answered = [0]

    def callback(outputs: Any, user_data: Any, error: str) -> None:
        if error:
            errors.append(error)
        answered[0] += 1  # callbacks come one at a time, from one thread
        if answered[0] == count:
            done.set()

    start = time.perf_counter()
    for number in range(count):
        session.run_async(None, feeds[number % len(feeds)], callback, number)
    if not done.wait(60) or errors:
        raise RuntimeError(errors[0] if errors else f"only {answered[0]} of {count} answers came")
    return count / (time.perf_counter() - start)
