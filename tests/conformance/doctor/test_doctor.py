"""The software's lines, the self-test on devices that work and that do not, and the command itself."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import ort_rknn_conformance
from ort_rknn.devices.cpu import CpuDevice
from ort_rknn.devices.simulator import SimulatorDevice
from ort_rknn.errors import DeviceError, DeviceUnavailable
from ort_rknn_conformance.doctor import software
from ort_rknn_conformance.doctor.cli import command
from ort_rknn_conformance.doctor.selftest import self_test
from ort_rknn_converters.errors import ToolkitMissing
from ort_rknn_converters.targets import TARGETS
from ort_rknn_converters.toolkit.setup import environment
from tests.helpers.board_trees import ROCK5B, ROCK5B_NAMES, tree


class _Off(CpuDevice):
    """Gives wrong numbers."""

    def open(self, *arguments: Any, **more: Any) -> Any:
        context = super().open(*arguments, **more)
        run = context.run
        context.run = lambda *values: [array + 1 for array in run(*values)]  # type: ignore[method-assign, operator]
        return context


class _Dead(CpuDevice):
    """Opens nothing."""

    def open(self, *arguments: Any, **more: Any) -> Any:
        raise DeviceError("rknn_init failed: RKNN_ERR_DEVICE_UNMATCH")


def test_there_is_a_model_for_every_soc_with_float_models() -> None:
    folder = Path(ort_rknn_conformance.__path__[0]) / "doctor" / "models"
    wanted = {f"{target.name}.compiled" for target in TARGETS.values() if target.fp16 and target.flatbuffer}
    assert {path.name for path in folder.iterdir() if "-" not in path.name} == wanted


@pytest.mark.parametrize("target", ["rk3588", "rk3576", "rk3566", "rk3568", "rk3562", "rv1126b"])
def test_self_test_of_each_target(target: str) -> None:
    device, test = self_test(SimulatorDevice(target=target))
    assert (device.state, test.state) == ("ok", "ok"), test
    assert "2 nodes" in test.said


@pytest.mark.parametrize(("device", "said"), [(_Off(), "wrong numbers"), (_Dead(), "RKNN_ERR_DEVICE_UNMATCH")])
def test_self_test_of_a_device_that_does_not_work(device: Any, said: str) -> None:
    _, test = self_test(device)
    assert test.state == "bad"
    assert said in test.said
    assert test.cure


def test_self_test_without_a_device_runs_on_the_simulator() -> None:
    def none() -> Any:
        raise DeviceUnavailable("there is none; get one")

    device, test = self_test(none)
    assert (device.state, device.said, device.cure.split(";")[0]) == ("bad", "CPU: there is none", "get one")
    assert test.topic == "self-test on the simulator"
    assert test.state == "ok"


def _software() -> Mapping[str, Any]:
    return {finding.topic: finding for finding in software.software_findings()}


def test_software(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path / "cache"))
    found = _software()
    assert found["Python"].state == found["onnxruntime"].state == found["cache"].state == "ok"
    assert f"ORT_RKNN_CACHE_DIR={tmp_path / 'cache'}" in found["environment"].said
    monkeypatch.setattr(software, "ROOM", 1e18)
    assert _software()["cache"].state == "note"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path / "file"))
    assert _software()["cache"].state == "bad"


def test_toolkit_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ToolkitMissing(environment.MISSING)

    monkeypatch.setattr(environment, "find_python", missing)
    found = _software()["toolkit"]
    assert found.state == "note"
    assert found.cure.startswith("Run `ort-rknn toolkit install`")


@pytest.mark.parametrize(
    ("installed", "state", "said"),
    [
        ({"onnxruntime": "1.23.2"}, "ok", "1.23.2"),
        ({"onnxruntime": "1.16.3"}, "bad", "too old"),
        ({"onnxruntime": "1.23.2", "onnxruntime-gpu": "1.20.0"}, "note", "onnxruntime-gpu"),
        ({}, "bad", "not installed"),
    ],
)
def test_onnxruntimes(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], state: str, said: str) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(software.metadata, "version", version)
    found = _software()["onnxruntime"]
    assert found.state == state
    assert said in found.said


def test_the_command_on_a_board_and_here(tmp_path: Path) -> None:
    tree(tmp_path, ROCK5B_NAMES, ROCK5B)
    result = CliRunner().invoke(command, ["--root", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["npu_used"]
    assert content["versions"]["onnxruntime"]
    (tmp_path / "usr" / "lib" / "librknnrt.so").unlink()
    result = CliRunner().invoke(command, ["--root", str(tmp_path)])
    assert result.exit_code == 1
    assert "The NPU is not used here: runtime library" in result.stdout
    result = CliRunner().invoke(command, ["--no-test"])
    assert "onnxruntime" in result.stdout


def test_a_place_that_is_not_there_is_no_board(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--root", str(tmp_path / "none"), "--no-test"])
    assert result.exit_code == 2
    assert "does not exist" in result.output


def test_a_cache_made_by_the_doctor_is_this_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path / "a" / "cache"))
    before = os.umask(0)
    try:
        assert software._cache().state == "ok"
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "cache").stat().st_mode & 0o777 == 0o700


def test_a_failed_installation_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv(environment.PYTHON_VARIABLE, raising=False)
    environment.failure_note().parent.mkdir()
    environment.failure_note().write_text("the disk is full. Make room\nERROR of pip\n" * 50)
    assert software._toolkit().said.endswith("The last installation failed: the disk is full. Make room")
