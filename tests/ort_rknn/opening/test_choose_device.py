"""Which device serves a session, and what is said when none does."""

from __future__ import annotations

import pytest

from ort_rknn.devices.fake import FakeDevice
from ort_rknn.devices.simulator import SimulatorDevice
from ort_rknn.devices.soc import Soc
from ort_rknn.errors import DeviceUnavailable
from ort_rknn.opening import choose_device
from ort_rknn.opening.choose_device import DeviceOptions, choose, npu_problem


def test_the_simulator_has_the_targets_cores() -> None:
    choice = choose("simulator", DeviceOptions(target="rk3576", simulator_latency_ms=2))
    assert isinstance(choice.device, SimulatorDevice)
    assert (choice.device.cores, choice.device.latency_s, choice.target) == (2, 0.002, "rk3576")
    assert choose("simulator", DeviceOptions(simulator_cores=7)).device.cores == 7  # type: ignore[union-attr]
    assert choose("simulator").target == "rk3588"


def test_the_boards_own_soc_is_the_default_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_device, "detect", lambda: Soc(target="rk3566"))
    assert choose("simulator").target == "rk3566"
    assert choose("simulator", DeviceOptions(target="rk3588")).target == "rk3588"


@pytest.mark.parametrize("wish", ["auto", "npu"])
def test_without_an_npu_the_reason_says_what_to_do(wish: str) -> None:
    choice = choose(wish)
    assert choice.device is None
    assert "no NPU can be used" in choice.reason
    assert "set ORT_RKNN_DEVICE=simulator" in choice.reason
    assert npu_problem() == choice.reason


def test_the_cpu_is_no_device() -> None:
    assert choose("cpu").device is None
    assert "was asked for" in choose("cpu").reason


def test_devices_and_factories() -> None:
    device = FakeDevice(2)
    assert choose(device).device is device
    assert choose(lambda: device).device is device
    assert isinstance(choose(FakeDevice).device, FakeDevice)

    def broken() -> FakeDevice:
        raise DeviceUnavailable("unplugged")

    assert choose(broken).reason == "unplugged"
