"""The perf line and the statistics. EZ-44, EZ-45."""

from __future__ import annotations

import re

import pytest

from ort_rknn.devices.fake import FakeContext
from ort_rknn.engine.lanes.threads import ThreadLanes
from tests.helpers.engines import LONG, fake, frame

LINE = re.compile(
    r"^\[ort_rknn_perf\] task_id=(\d+) thread_id=(\d+) core_id=(\d+) set_input_us=(\d+) infer_us=(\d+) "
    r"copy_output_us=(\d+) total_us=(\d+)$"
)


@pytest.mark.parametrize("variable", ["ORT_RKNN_PRINT_PERF", "ZTU_EZRKNN_ASYNC_PRINT_PERF"])
@pytest.mark.parametrize(
    ("value", "lines"), [("1", 3), ("TRUE", 3), ("on", 3), ("Yes", 3), ("0", 0), ("", 0), ("nonsense", 0)]
)
def test_ez44_ez45_perf_line(
    new_engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    lines: int,
) -> None:
    monkeypatch.setenv(variable, value)
    device = fake(2, gated=False)
    engine = new_engine(device)
    monkeypatch.delenv(variable)
    for tag in range(2):
        engine.submit(frame(tag)).result(LONG)
    engine.run(frame(2))
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == lines
    for place, line in enumerate(printed):
        match = LINE.match(line)
        assert match is not None, line
        numbers = [int(group) for group in match.groups()]
        assert numbers[0] == place
        assert numbers[6] == sum(numbers[3:6])


@pytest.mark.parametrize("lanes", [ThreadLanes])  # native lanes measure the phases themselves
def test_ez45_phases_of_the_device(
    new_engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeContext, "phases", (1e-6, 20e-6, 3e-6), raising=False)
    engine = new_engine(fake(1, gated=False), print_perf=True)
    engine.run(frame(0))
    assert "set_input_us=1 infer_us=20 copy_output_us=3 total_us=24" in capsys.readouterr().err


@pytest.mark.parametrize("lanes", [ThreadLanes])
def test_pacing_learns_from_the_inference_alone(new_engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeContext, "phases", (1.0, 2.0, 3.0), raising=False)
    engine = new_engine(fake(1, gated=False), enable_pacing=True)
    engine.run(frame(0))
    assert engine.stats().mean_inference_s == 2.0


def test_statistics(new_engine) -> None:
    device = fake(2)
    engine = new_engine(device)
    jobs = [engine.submit(frame(tag)) for tag in range(5)]
    for tag in (0, 1):
        device.gate(tag).wait_started()
    jobs[4].cancel()
    device.gate(1).fail(-1)
    device.open_all()
    for job in jobs:
        job.wait(LONG)
    engine.run(frame(9))
    stats = engine.stats()
    assert (stats.accepted, stats.completed, stats.failed, stats.cancelled, stats.runs) == (5, 3, 1, 1, 1)
    assert (stats.waiting, stats.undelivered, stats.most_waiting, stats.mean_inference_s) == (0, 0, 3, None)
    assert sum(lane.tasks for lane in stats.lanes) == 4
    assert sum(lane.failures for lane in stats.lanes) == 1
    assert all(lane.busy_s >= 0 for lane in stats.lanes)
