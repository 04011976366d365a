"""A storm: many producers, faults, hangs, cancels, closes. Every job ends exactly once, right, and in order."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest

from ort_rknn.devices.base import SegmentCode
from ort_rknn.devices.fake import FakeDevice
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.job import InferenceJob
from ort_rknn.errors import DeviceError, SessionClosed, SubmitTimeout
from tests.helpers.engines import LONG, SHAPE, Background, program

PRODUCERS = 8
JOBS = 150


def _feed(tag: int) -> dict[str, Any]:
    return {"x": np.full(SHAPE, tag, np.float32)}


def _sometimes_failing(seed: int) -> Any:
    """The device's arithmetic; one call in fifty fails."""
    dice = random.Random(seed)

    def compute(code: SegmentCode, inputs: Any) -> Any:
        if dice.random() < 0.02:
            raise DeviceError("rknn_run failed", call="rknn_run", code=-1)
        return [inputs[0] + 0.5]

    return compute


class Ledger:
    """What became of every job."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ended: Counter[int] = Counter()
        self.delivered: list[tuple[int, Any, str]] = []

    def callback(self, results: Any, tag: int, err: str) -> None:
        self.delivered.append((tag, results, err))

    def done(self, job: Any) -> None:
        with self.lock:
            self.ended[job.job_id] += 1


def _produce(engine: Engine, ledger: Ledger, start: int, seed: int) -> dict[int, InferenceJob]:
    dice = random.Random(seed)
    jobs: dict[int, InferenceJob] = {}
    for tag in range(start, start + JOBS):
        kind = dice.random()
        try:
            if kind < 0.1:
                assert engine.run(_feed(tag))[0][0, 0] == tag + 0.5
                continue
            if kind < 0.2:
                job = engine.submit_parked(_feed(tag))
            else:
                job = engine.submit(_feed(tag), callback=ledger.callback, user_data=tag, timeout=dice.choice([None, 0]))
        except DeviceError:
            continue
        except SubmitTimeout:
            continue
        except SessionClosed:
            break
        job.add_done_callback(ledger.done)
        jobs[tag] = job
        if dice.random() < 0.1:
            job.cancel()
    return jobs


@pytest.mark.parametrize("close_early", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"schedule": [0, 1, 2]}, {"threads_per_core": 2, "overflow": "drop_oldest"}], ids=str
)
def test_storm(new_engine, options: dict[str, Any], close_early: bool) -> None:
    device = FakeDevice(3, gated=False, compute=_sometimes_failing(1))
    engine = new_engine(device, fallback=lambda feed, *_: [feed["x"] + 0.5], **options)
    ledger = Ledger()
    producers = [
        Background(lambda place=place: _produce(engine, ledger, 10_000 * place, place)) for place in range(PRODUCERS)
    ]
    if close_early:
        assert engine.submit(_feed(1)).wait(LONG)
        engine.close(cancel_jobs=True)
    jobs = {tag: job for producer in producers for tag, job in producer.result().items()}
    assert engine.wait_all(LONG)
    engine.close()

    for tag, job in jobs.items():
        assert job.done()
        if job.cancelled():
            continue
        error = job.exception()
        if error is None:
            assert job.result()[0][0, 0] == tag + 0.5
        else:
            assert "rknn_run failed" in str(error)
    assert all(count == 1 for count in ledger.ended.values())
    assert len(ledger.ended) == len(jobs)

    told = [tag for tag, _, _ in ledger.delivered]
    assert len(told) == len(set(told))
    assert set(told) <= set(jobs)
    ids = [jobs[tag].job_id for tag in told]
    assert ids == sorted(ids), "in the order of submission"
    for tag, results, err in ledger.delivered:
        if jobs[tag].cancelled() or jobs[tag].exception() is not None:
            assert (results, bool(err)) == ([], True)
        else:
            assert (results[0][0, 0], err) == (tag + 0.5, "")
    stats = engine.stats()
    assert stats.accepted == stats.completed + stats.failed + stats.cancelled
    assert (stats.waiting, stats.undelivered) == (0, 0)


def test_storm_of_engines_opened_and_dropped(lanes: Any) -> None:
    """Sessions come and go while their jobs still run."""
    device = FakeDevice(2, gated=False)
    jobs = []
    for round_ in range(30):
        engine = Engine(program(device), lanes=lanes)
        jobs += [(tag, engine.submit(_feed(tag))) for tag in range(round_, round_ + 5)]
        if round_ % 3:
            engine.close(wait=bool(round_ % 2))
    del engine
    for tag, job in jobs:
        assert job.result(LONG)[0][0, 0] == tag
    assert device.wait_closed(LONG)
    assert device.misuse == []
