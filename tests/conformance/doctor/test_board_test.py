"""The board's test on what stands in for a board: all right, wrong numbers, a missing device, and where it was made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from docs.write_hardware import REPORTS
from ort_rknn.devices.base import AUTO
from ort_rknn.devices.settings import NpuSettings
from ort_rknn.devices.simulator import SimulatorDevice
from ort_rknn_conformance.doctor import board_cli
from ort_rknn_conformance.doctor.board_cli import command, where_it_ran
from ort_rknn_conformance.doctor.board_models import MODELS
from ort_rknn_conformance.doctor.board_test import board_test
from ort_rknn_conformance.flows.emulated_device import EmulatedNpu
from tests.helpers.emulator import Emulator, build_emulator

BUNDLED = ("rk3588", "rk3576", "rk3566", "rk3568", "rk3562", "rv1126b")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model for the speed takes 80 ms on a PC: the small one does where speed is not asked for."""
    monkeypatch.setattr("ort_rknn_conformance.doctor.board_test.MODELS", (*MODELS[:-1], MODELS[0]))


class _SecondCoreBroken(SimulatorDevice):
    """Core 1 gives other numbers than the rest."""

    def open(self, code: Any, mask: int = AUTO, share: Any = None) -> Any:
        context = super().open(code, mask, share)
        if mask == 0b10:
            run = context.run
            context.run = lambda *values: [array + 1 for array in run(*values)]  # type: ignore[method-assign, operator]
        return context


def test_every_way_on_three_cores(short: None) -> None:
    found = board_test(SimulatorDevice(target="rk3588"), "rk3588", runs=1)
    ways = [
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
    assert [trial.name for trial in found if trial.group == "cores"] == ways
    assert [trial.name for trial in found if trial.group == "speed"] == ways
    assert "a quantized convolution, core 2" in [trial.name for trial in found if trial.group == "models"]
    assert {"layer_norm", "gelu", "softmax"} <= {trial.name for trial in found if trial.group == "operators"}
    assert not [trial for trial in found if trial.group == "features"], "a simulator has no runtime to ask"
    assert all(trial.ok for trial in found), found


def test_one_core_has_fewer_ways(short: None) -> None:
    names = [trial.name for trial in board_test(SimulatorDevice(target="rk3566"), "rk3566", runs=1)]
    assert "core 1, one at a time" not in names
    assert "core mask 0,1" not in names


def test_a_broken_core_is_named(short: None) -> None:
    found = {
        (trial.group, trial.name): trial for trial in board_test(_SecondCoreBroken(target="rk3588"), "rk3588", runs=4)
    }
    assert found["cores", "core 0, one at a time"].ok
    assert found["cores", "core 1, one at a time"].ok is False
    assert "wrong numbers" in found["cores", "core 1, one at a time"].said
    assert not found["cores", "all cores, several in flight"].ok
    assert not found["operators", "gelu"].ok


@pytest.mark.parametrize("target", BUNDLED)
def test_models_for_every_soc_come_with_the_package(target: str, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_RUNTIME_LIBRARY", str(build_emulator()))
    device = EmulatedNpu(NpuSettings(target=target))
    try:
        found = board_test(device, target, runs=1)
    finally:
        device.close()
    assert all(trial.ok is not False for trial in found), found
    assert {trial.group for trial in found} == set(board_cli.GROUPS)
    assert MODELS[-1].read(target)
    kept = REPORTS / f"emulated-{target}.json"
    if kept.exists():
        listed = [(trial["group"], trial["name"]) for trial in json.loads(kept.read_text())["trials"]]
        assert [(trial.group, trial.name) for trial in found] == listed, f"{kept} is of another list of trials"


def _run(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, on a machine without toolkit and cache."""
    place = {"ORT_RKNN_TOOLKIT_PYTHON": "/nowhere/python", "HOME": str(home), "COLUMNS": "120", **environment}
    code = "import sys; from ort_rknn.cli import main; sys.argv[0] = 'ort-rknn'; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, "board-test", *arguments],
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_on_the_emulated_npu(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    arguments = ("--device", "npu", "--target", "rk3588", "--runs", "1", "--json", str(file))
    done = _run(tmp_path, *arguments, ORT_RKNN_RUNTIME_LIBRARY=str(build_emulator()))
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(file.read_text())
    assert (content["where"], content["target"], content["board"]) == ("emulated", "rk3588", None)
    assert "EMULATED" in done.stdout
    assert "these times mean nothing" in " ".join(done.stdout.split())
    assert "56 right, none wrong" in done.stdout, "three are facts, neither right nor wrong"
    assert "hardware" not in done.stdout
    trials = {trial["name"]: trial for trial in content["trials"] if trial["group"] == "features"}
    assert {
        "weights shared by two contexts",
        "opened by path",
        "priority low",
        "time of each layer",
        "calls made by Python alone",
        "zero copy",
        "zero copy from another's file descriptor",
        "float images handed over as float32",
        "several input shapes: 1x3x16x16",
    } <= set(trials)
    assert all(trial["ok"] is not False for trial in content["trials"]), content["trials"]
    assert trials["values beyond 65504"]["said"].endswith("becomes inf")
    assert "Emulated" in trials["time of each layer"]["details"]


def test_a_fault_of_the_runtime_is_a_line_of_the_report(
    short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = Emulator()
    monkeypatch.setenv("ORT_RKNN_RUNTIME_LIBRARY", str(emulator.path))
    file = tmp_path / "b.json"
    emulator.configure(fault="rknn_dup_context@1x*=-1")
    try:
        result = CliRunner().invoke(command, ["--device", "npu", "--runs", "1", "--json", str(file)])
    finally:
        emulator.reset()
    assert result.exit_code == 1
    trials = {trial["name"]: trial for trial in json.loads(file.read_text())["trials"]}
    assert "shares no weights" in trials["weights shared by two contexts"]["said"]
    assert trials["all cores, weights loaded for each"]["ok"]


def test_the_command_on_the_simulator(short: None, tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    result = CliRunner().invoke(command, ["--device", "simulator", "--runs", "1", "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert json.loads(file.read_text())["where"] == "simulated"
    assert "SIMULATED" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "npu"], "no NPU can be used"),
        (["--device", "simulator", "--target", "rk1808"], "rk1808"),
        (["--device", "simulator", "--target", "rv1106"], "no bundled models for rv1106"),
        (["--device", "simulator", "--json", "no/such/folder/b.json"], "no/such/folder is not there"),
    ],
)
def test_what_cannot_be_run_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    given = arguments if "--json" in arguments else [*arguments, "--json", str(tmp_path / "b.json")]
    result = CliRunner().invoke(command, given)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_only_a_board_is_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        path = "/usr/lib/librknnrt.so"

    class Npu:
        name = "npu"
        library = Library()

    assert where_it_ran(Npu()) == "emulated", "another emulator on a PC is no board"
    monkeypatch.setattr(board_cli.platform, "machine", lambda: "aarch64")
    assert where_it_ran(Npu()) == "emulated", "without a device tree it is no board"
    monkeypatch.setattr("ort_rknn.devices.soc.detect", lambda: type("Soc", (), {"target": "rk3588"})())
    assert where_it_ran(Npu()) == "hardware"
    monkeypatch.setattr("ort_rknn_conformance.flows.emulated_device.is_emulator", lambda path: True)
    assert where_it_ran(Npu()) == "emulated", "the tests' emulator on a board is no NPU"
