"""What an engine tells its observer, on every kind of lanes."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ort_rknn.devices.program import Program
from ort_rknn.engine.engine import Engine
from ort_rknn.errors import DeviceError
from tests.helpers.engines import LONG, cpu_part, fake, frame, npu_part, program


class Notes:
    """An observer that writes everything down."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self.inferences: list[tuple[Any, ...]] = []

    def step(self, job_id: int, part: Any, begun: float, seconds: float, core: Any = None, phases: Any = None) -> None:
        self.steps.append((job_id, part.name, begun, seconds, core, phases))

    def inference(self, job_id: int, begun: float, seconds: float, error: str = "") -> None:
        self.inferences.append((job_id, begun, seconds, error))


def test_every_step_and_every_inference_is_told(lanes) -> None:
    device, notes = fake(2, gated=False), Notes()
    parts = [
        cpu_part("head", ["x"], ["h"], lambda feed: {"h": feed["x"]}),
        npu_part("npu_0", ["h"], ["m"]),
        cpu_part("tail", ["m"], ["y"], lambda feed: {"y": feed["m"]}),
    ]
    engine = Engine(Program.from_steps(parts, device, outputs=["y"]), lanes=lanes, observer=notes)
    before = time.perf_counter()
    jobs = [engine.submit(frame(tag)) for tag in range(3)]
    assert all(job.wait(LONG) for job in jobs)
    engine.run(frame(3))
    engine.close()
    after = time.perf_counter()
    assert sorted(step[:2] for step in notes.steps) == [
        (number, name) for number in range(4) for name in ("head", "npu_0", "tail")
    ]
    for number, name, begun, seconds, core, _ in notes.steps:
        assert before <= begun <= begun + seconds <= after, (number, name)
        assert (core in (0, 1)) == (name == "npu_0")
    assert [told[0] for told in sorted(notes.inferences)] == [0, 1, 2, 3]
    for number, begun, seconds, error in notes.inferences:
        own = [step for step in notes.steps if step[0] == number]
        assert error == ""
        assert begun <= min(step[2] for step in own)
        assert begun + seconds >= max(step[2] + step[3] for step in own) - 1e-6


def test_failures_and_cancelled_jobs_are_told_with_their_reason(lanes) -> None:
    device, notes = fake(1), Notes()
    engine = Engine(program(device), lanes=lanes, observer=notes)
    failing, waiting = engine.submit(frame(0)), engine.submit(frame(1))
    device.gate(0).wait_started()
    assert waiting.cancel()
    device.gate(0).fail(-1)
    assert failing.exception(LONG) is not None
    device.gate(2).fail(-1)
    with pytest.raises(DeviceError):
        engine.run(frame(2))
    engine.close()
    reasons = {number: error for number, _, _, error in notes.inferences}
    assert reasons[1] == "it was cancelled"
    assert "rknn_run failed" in reasons[0]
    assert "rknn_run failed" in reasons[2]
    assert notes.steps == []
