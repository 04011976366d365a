"""The library registered and unregistered: devices, versions, and whether a compiled model fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner

import ort_rknn
import ort_rknn.plugin
from ort_rknn.bench.cli import command as bench
from tests.helpers.emulator import Emulator, build_emulator, private_copy
from tests.helpers.plugin import NAME, VERSION, build_plugin, emulated_sample, plugin_session, registered, shim_session

FEED = {"x": np.zeros((1, 3, 8, 8), np.float32), "flag": np.array([True])}


def test_without_the_runtime_there_is_no_device(tmp_path: Path) -> None:
    with registered(None) as found:
        assert found == []
    with registered(tmp_path / "no.so") as found:
        assert found == []


def test_register_twice_and_again(emulator: Emulator, sample_path: Path) -> None:
    for number in range(3):
        with registered(emulator.path, name=f"again {number % 2}") as found:
            assert [device.device.type.name for device in found] == ["NPU" if VERSION >= (1, 24) else "CPU"]
            with (
                pytest.raises(Exception, match="already registered"),
                registered(emulator.path, name=f"again {number % 2}"),
            ):
                pass
            session = plugin_session(sample_path)
        session.run(None, FEED)  # it goes on where the library was unregistered too early
        del session


def fitness(path: Path, devices: list[Any]) -> str:
    from onnxruntime.capi import _pybind_state as state

    info = state.get_compatibility_info_from_model(str(path), NAME)
    return str(state.get_model_compatibility_for_ep_devices(devices, info).name)


@pytest.mark.skipif(VERSION < (1, 25), reason="this onnxruntime does not ask from Python")
def test_fitness_is_said_before_a_session_is_made(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    emulated_sample(("rk3588", "rk3566")).save(path)
    fitting = {"": "EP_SUPPORTED_OPTIMAL", "rk3568": "EP_SUPPORTED_OPTIMAL", "rk3576": "EP_UNSUPPORTED"}
    for board, expected in fitting.items():
        monkeypatch.setenv("ORT_RKNN_TARGET", board)
        with registered(emulator.path, name=f"fitness {board}") as found:
            assert fitness(path, found) == expected


@pytest.mark.skipif(VERSION < (1, 25), reason="this onnxruntime does not ask from Python")
@pytest.mark.parametrize(
    ("runtime", "expected"),
    [("2.5.2", "EP_SUPPORTED_OPTIMAL"), ("2.3.0", "EP_SUPPORTED_PREFER_RECOMPILATION"), ("1.5.0", "EP_UNSUPPORTED")],
)
def test_a_runtime_older_than_the_toolkit(tmp_path: Path, runtime: str, expected: str) -> None:
    path = tmp_path / "model.onnx"
    emulated_sample().save(path)
    library = private_copy(build_emulator(), tmp_path)
    with library.open("ab") as file:  # where the vendor's says its version
        file.write(f"librknnrt version: {runtime} (x@2026-01-01)".encode())
    with registered(library, name=f"runtime {runtime}") as found:
        assert fitness(path, found) == expected


@pytest.mark.skipif(VERSION < (1, 24), reason="this onnxruntime takes no devices of a plugin's own")
def test_a_device_says_what_it_is(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_TARGET", "rk3576")
    with registered(emulator.path, name="what it is") as (device,):
        assert device.ep_metadata["version"] == "9.8.7"
        assert (device.device.vendor, device.device.vendor_id, device.device.device_id) == ("Rockchip", 0x1D87, 0x3576)
        assert device.device.metadata["soc"] == "rk3576"
        assert device.device.metadata["cores"] == "2"


def test_the_package_lists_the_provider_once(emulator: Emulator, sample_path: Path) -> None:
    with registered(emulator.path, name="once"):
        assert ort_rknn.get_available_providers().count(NAME) == 1
        assert ort_rknn.get_all_providers().count(NAME) == 1
        shim, plain = shim_session(sample_path), plugin_session(sample_path)
        np.testing.assert_array_equal(shim.run(["y"], FEED)[0], plain.run(["y"], FEED)[0])
        shim.close()
        del plain
    assert NAME not in onnxruntime.get_available_providers()


def test_a_session_of_the_package_with_the_plugins_devices_is_as_onnxruntime_makes_it(
    emulator: Emulator, sample_path: Path
) -> None:
    with registered(emulator.path, name="devices") as found:
        options = ort_rknn.SessionOptions()
        options.add_provider_for_devices(found, {})
        session = ort_rknn.InferenceSession(str(sample_path), options)
        assert session.get_providers() == [NAME, "CPUExecutionProvider"]
        before = emulator.count("rknn_run")
        session.run(None, FEED)
        assert emulator.count("rknn_run") == before + 2
        assert emulator.count("contexts") == 2
        del session


def test_bench_says_why_there_is_no_plugin(sample_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_RKNN_RUNTIME_LIBRARY", raising=False)
    monkeypatch.setattr(ort_rknn.plugin, "get_library_path", lambda: str(build_plugin()))
    done = CliRunner().invoke(bench, [str(sample_path), "--plugin", "-n", "1", "--device", "simulator"])
    assert done.exit_code == 2
    assert "--plugin: the plugin finds no NPU" in done.output
