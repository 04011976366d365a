"""The board's test on devices that stand in: all right, wrong numbers, and a device that is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from ort_rknn.devices.base import AUTO
from ort_rknn.devices.simulator import SimulatorDevice
from ort_rknn_conformance.doctor.board_test import board_test
from ort_rknn_conformance.doctor.cli import board_test as command


class _SecondCoreBroken(SimulatorDevice):
    """Core 1 gives other numbers than the rest."""

    def open(self, code: Any, mask: int = AUTO, share: Any = None) -> Any:
        context = super().open(code, mask, share)
        if mask == 0b10:
            run = context.run
            context.run = lambda *values: [array + 1 for array in run(*values)]  # type: ignore[method-assign, operator]
        return context


def test_every_way_on_three_cores() -> None:
    found = board_test(SimulatorDevice(target="rk3588"), "rk3588", runs=8)
    assert [trial.name for trial in found] == [
        "core 0, one at a time",
        "core 1, one at a time",
        "core 2, one at a time",
        "core mask auto",
        "core mask all",
        "core mask 0,1",
        "core mask 0,1,2",
        "all cores, several in flight",
        "all cores, two contexts each",
        "all cores, weights loaded for each",
    ]
    assert all(trial.ok for trial in found), found
    assert all(trial.per_second for trial in found)


def test_one_core_has_fewer_ways() -> None:
    names = [trial.name for trial in board_test(SimulatorDevice(target="rk3566"), "rk3566", runs=2)]
    assert "core 1, one at a time" not in names
    assert "core mask 0,1" not in names


def test_a_broken_core_is_named() -> None:
    found = {trial.name: trial for trial in board_test(_SecondCoreBroken(target="rk3588"), "rk3588", runs=8)}
    assert found["core 0, one at a time"].ok
    assert not found["core 1, one at a time"].ok
    assert "wrong numbers" in found["core 1, one at a time"].said
    assert not found["all cores, several in flight"].ok


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    result = CliRunner().invoke(command, ["--device", "simulator", "--json", str(file)])
    assert result.exit_code == 0, result.output
    content = json.loads(file.read_text())
    assert content["simulated"]
    assert len(content["trials"]) == 10
    assert "simulated" in result.stdout
    missing = CliRunner().invoke(command, ["--device", "npu", "--json", str(file)])
    assert missing.exit_code == 2
    assert "no NPU can be used" in missing.stderr
