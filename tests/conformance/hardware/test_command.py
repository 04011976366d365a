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
from ort_rknn.devices.soc import Soc
from ort_rknn_conformance.doctor.board_models import MODELS
from ort_rknn_conformance.flows.emulated_device import EmulatedNpu
from ort_rknn_conformance.hardware.command import GROUPS, command, where_it_ran
from ort_rknn_conformance.hardware.cost_models import read_all
from ort_rknn_conformance.hardware.report_file import ReportFile
from ort_rknn_conformance.hardware.watched import make_trials
from ort_rknn_conformance.hardware.ways import board_test
from ort_rknn_converters.partition.cost_profile import KINDS, WAYS, CostProfile
from ort_rknn_converters.partition.installed_profile import profile_path
from tests.helpers.emulator import build_emulator

BUNDLED = ("rk3588", "rk3576", "rk3566", "rk3568", "rk3562", "rv1126b")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model for the speed takes 80 ms on a PC: the small one does where speed is not asked for."""
    monkeypatch.setattr("ort_rknn_conformance.hardware.ways.MODELS", (*MODELS[:-1], MODELS[0]))


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
    assert {trial.group for trial in found} == set(GROUPS) - {"start", "cost"}
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
    assert "57 right, none wrong" in done.stdout, "three are facts, neither right nor wrong"
    assert "hardware" not in done.stdout
    trials = {trial["name"]: trial for trial in content["trials"] if trial["group"] == "features"}
    assert {
        "weights shared by two contexts",
        "opened by path",
        "priority low",
        "time of each layer",
        "calls made by Python alone",
        "an input's memory used again before the run",
        "zero copy",
        "zero copy from another's file descriptor",
        "float images handed over as float32",
        "several input shapes: 1x3x16x16",
    } <= set(trials)
    assert all(trial["ok"] is not False for trial in content["trials"]), content["trials"]
    assert trials["values beyond 65504"]["said"].endswith("becomes inf")
    assert "Emulated" in trials["time of each layer"]["details"]


def test_a_fault_of_the_runtime_is_a_line_of_the_report(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    faults = {"EMU_FAULT": "rknn_dup_context@1x*=-1", "ORT_RKNN_RUNTIME_LIBRARY": str(build_emulator())}
    done = _run(tmp_path, "--target", "rk3588", "--runs", "1", "--json", str(file), **faults)
    assert done.returncode == 1
    trials = {trial["name"]: trial for trial in json.loads(file.read_text())["trials"]}
    assert "shares no weights" in trials["weights shared by two contexts"]["said"]
    assert trials["all cores, weights loaded for each"]["ok"]


def test_a_crash_and_a_hang_are_results_that_name_the_call(tmp_path: Path) -> None:
    """Each process opens its fourth context to its death; the rest is made in the next one."""
    file = tmp_path / "b.json"
    runtime = {"ORT_RKNN_RUNTIME_LIBRARY": str(build_emulator()), "EMU_RUNTIME": "1.6.0"}
    limits = ("--target", "rk3566", "--runs", "1", "--trial-limit", "20", "--json", str(file))
    died = _run(tmp_path, *limits, EMU_FAULT="rknn_init@12=die:11;rknn_outputs_get@30=die:6", **runtime)
    assert died.returncode == 1
    content = json.loads(file.read_text())
    assert content["complete"]
    said = {trial["said"] for trial in content["trials"] if "killed" in trial["said"]}
    assert said <= {
        "the process was killed by SIGSEGV, in rknn_init",
        "the process was killed by SIGABRT, in rknn_outputs_get",
    }
    assert said
    assert "a fault that was asked for" in next(
        trial["details"] for trial in content["trials"] if "killed" in trial["said"]
    )
    assert any(section["died"] == "SIGSEGV" for section in content["contract"]["npu_0"])


def test_a_trial_that_hangs_ends_and_the_file_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    report = ReportFile(path, {"where": "emulated", "target": "rk3566", "runs": 1})
    arguments = ["--device", "npu", "--target", "rk3566", "--runs", "1"]
    with pytest.MonkeyPatch.context() as place:
        place.setenv("ORT_RKNN_RUNTIME_LIBRARY", str(build_emulator()))
        place.setenv("EMU_FAULT", "rknn_run@4x*=hang")
        make_trials(report, arguments, limit=6.0, only=2)
    first, second = report.trials[:2]
    assert (first.name, second.ok) == ("core 0, one at a time", False)
    assert second.said == "the process did not end within 6 s, in rknn_run"
    again = ReportFile(path, {"where": "emulated", "target": "rk3566", "runs": 1}, resume=True)
    assert again.done == {(trial.group, trial.name) for trial in report.trials}
    with pytest.raises(ValueError, match="of target 'rk3566', not 'rk3588'"):
        ReportFile(path, {"where": "emulated", "target": "rk3588", "runs": 1}, resume=True)
    path.write_text("{}")
    with pytest.raises(ValueError, match="cannot be gone on with"):
        ReportFile(path, {"where": "emulated", "target": "rk3566", "runs": 1}, resume=True)


def test_costs_are_a_profile_that_the_cost_rule_reads(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    place = {"ORT_RKNN_RUNTIME_LIBRARY": str(build_emulator()), "EMU_LIGHT": "1", "ORT_RKNN_CACHE_DIR": str(tmp_path)}
    done = _run(tmp_path, "--target", "rk3588", "--cost", "--json", str(file), **place)
    assert done.returncode == 0, done.stdout + done.stderr
    profile = CostProfile.load(file)
    assert {cost.kind for cost in profile.operators} == set(KINDS)
    assert {cost.dtype for cost in profile.operators} == {"fp16", "int8"}
    assert {cost.way for cost in profile.transfers} == set(WAYS)
    assert not profile.measured
    assert not profile_path("rk3588", tmp_path).exists(), "no board: nothing is kept for the cost rule"


@pytest.mark.parametrize("target", BUNDLED)
def test_models_whose_costs_are_measured_come_with_the_package(target: str) -> None:
    found = [(model.kind, dtype) for model, dtype, _ in read_all(target)]
    assert {kind for kind, _ in found} == set(KINDS)
    assert len(found) > 60


def test_the_command_on_the_simulator(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    done = _run(tmp_path, "--device", "simulator", "--target", "rk3566", "--runs", "1", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(file.read_text())["where"] == "simulated"
    assert "SIMULATED" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "npu"], "no NPU can be used"),
        (["--device", "simulator", "--target", "rk1808"], "rk1808"),
        (["--device", "simulator", "--contract"], "are for the device npu"),
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
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert where_it_ran(Npu()) == "emulated", "without a device tree it is no board"
    monkeypatch.setattr("ort_rknn.devices.soc.detect", lambda named: Soc("rk3588", named=True))
    assert where_it_ran(Npu()) == "emulated", "a name alone makes no board"
    monkeypatch.setattr(
        "ort_rknn.devices.soc.detect", lambda named: Soc("rk3588", named=True, nodes=("/dev/dri/renderD129",))
    )
    assert where_it_ran(Npu()) == "hardware", "in a container the name stands in for the hidden device tree"
    monkeypatch.setattr("ort_rknn.devices.soc.detect", lambda named: Soc("rk3588"))
    assert where_it_ran(Npu()) == "hardware"
    monkeypatch.setattr("ort_rknn_conformance.flows.emulated_device.is_emulator", lambda path: True)
    assert where_it_ran(Npu()) == "emulated", "the tests' emulator on a board is no NPU"
