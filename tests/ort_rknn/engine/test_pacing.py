"""Pacing: EZ RKNN Async's numbers, with a clock of our own."""

from __future__ import annotations

import pytest

from ort_rknn.engine.pacing import Pacer
from tests.helpers.engines import LONG, fake, frame


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_ez41_mean_and_interval() -> None:
    pacer = Pacer(3, Clock())
    assert (pacer.mean, pacer.interval) == (None, 0.0)
    pacer.sample(0.010)
    assert pacer.mean == 0.010
    pacer.sample(0.020)
    assert pacer.mean == pytest.approx(0.0105)
    assert pacer.interval == pytest.approx(0.0035)


def test_ez41_a_job_before_its_time_waits() -> None:
    clock = Clock()
    pacer = Pacer(3, clock)
    pacer.sample(0.010)
    pacer.sample(0.020)
    assert pacer.delay() == 0.0
    pacer.accepted()
    clock.now += 0.0034
    assert pacer.delay() == pytest.approx(0.0001)
    clock.now += 0.0001001
    assert pacer.delay() == 0.0


def test_ez41_the_engine_learns_and_spaces_submissions(new_engine) -> None:
    device = fake(3, gated=False)
    engine = new_engine(device, enable_pacing=True, schedule=[0, 1, 2])
    for tag in range(4):
        engine.submit(frame(tag)).result(LONG)
    assert engine.stats().mean_inference_s is not None
    assert engine.stats().mean_inference_s > 0


def test_w6_a_held_back_submission_does_not_spin(new_engine) -> None:
    """EZ-W6: EZ RKNN Async's implementation burns a core while pacing holds a submission back."""
    device = fake(1)
    engine = new_engine(device, enable_pacing=True)
    first = engine.submit(frame(0))
    device.gate(0).wait_started()
    device.gate(0).open()
    first.result(LONG)
    engine._manager.pacer.sample(0.05)
    waits: list[float | None] = []
    original = engine._manager._admission.room.wait

    def counted(mark: int, timeout: float | None = None, *, first: bool = False) -> None:
        waits.append(timeout)
        original(mark, timeout, first=first)

    engine._manager._admission.room.wait = counted
    device.open_all()
    engine.submit(frame(1))
    engine.submit(frame(2))
    assert len(waits) <= 4
