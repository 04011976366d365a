"""When no thread can be started any more (the interpreter is ending), jobs still end."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ort_rknn.devices.program import Program
from ort_rknn.engine.callbacks import Delivery
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.lanes.base import NoCoreLeft
from ort_rknn.engine.lanes.threads import ThreadLanes
from tests.helpers.engines import LONG, Background, Calls, cpu_part, fake, frame, program


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread of an engine can be started."""
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name.startswith("ort_rknn"):
            raise RuntimeError("can't create new thread at interpreter shutdown")
        original(self)

    monkeypatch.setattr(threading.Thread, "start", start)


def test_a_job_that_needs_a_thread_ends_with_an_error(no_threads: None, caplog: pytest.LogCaptureFixture) -> None:
    device, calls = fake(1, gated=False), Calls()
    engine = Engine(program(device), lanes=ThreadLanes)
    assert engine.run(frame(1))[0][0, 0] == 1, "run needs none"
    job = engine.submit(frame(2), callback=calls)
    assert isinstance(job.exception(LONG), NoCoreLeft)
    assert "can't create new thread" in calls.seen[0][2]
    engine.close()
    assert device.alive == []


def test_cpu_steps_run_in_the_submitting_thread(no_threads: None) -> None:
    model = Program.from_steps([cpu_part("cpu_0", ["x"], ["y"], lambda v: {"y": v["x"] * 2})], None, outputs=["y"])
    engine = Engine(model)
    calls = Calls()
    assert engine.submit(frame(3), callback=calls, user_data=7).result(LONG)[0][0, 0] == 6
    assert calls.order() == [7]
    engine.close()


def test_one_thread_at_a_time_stands_in_for_delivery(no_threads: None) -> None:
    delivery = Delivery(ordered=True, limit=8, on_started=lambda: None)
    entered, leave = threading.Event(), threading.Event()
    seen: list[Any] = []

    def slow() -> None:
        entered.set()
        assert delivery.here
        assert leave.wait(LONG)
        seen.append(0)

    for job_id in (0, 1):
        delivery.expect(job_id)
    first = Background(lambda: delivery.post(0, slow, lambda: None))
    assert entered.wait(LONG)
    delivery.post(1, lambda: seen.append(1), lambda: None)
    assert seen == [], "the other thread will deliver it"
    leave.set()
    first.result()
    assert seen == [0, 1]
    assert not delivery.here
