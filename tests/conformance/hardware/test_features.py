"""Features that the board's test tries: one that the runtime lacks is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ort_rknn.devices.rknnrt.library import RuntimeLibrary
from ort_rknn.devices.settings import NpuSettings
from ort_rknn_conformance.flows.emulated_device import EmulatedNpu
from ort_rknn_conformance.hardware.features import feature_attempts
from ort_rknn_conformance.hardware.trial import Trial
from tests.helpers.emulator import build_emulator

AGAIN = "an input's memory used again before the run"


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedNpu]:
    monkeypatch.setenv("ORT_RKNN_RUNTIME_LIBRARY", str(build_emulator()))
    device = EmulatedNpu(NpuSettings(target="rk3588"))
    yield device
    device.close()


def tried(device: EmulatedNpu, name: str) -> Trial:
    (attempt,) = (one for one in feature_attempts(device, "rk3588") if one.names == (name,))
    (trial,) = attempt.run()
    return trial


def test_a_runtime_that_takes_inputs_at_once(device: EmulatedNpu) -> None:
    trial = tried(device, AGAIN)
    assert (trial.ok, trial.said) == (True, "right")


def test_a_runtime_that_reads_inputs_late(device: EmulatedNpu, monkeypatch: pytest.MonkeyPatch) -> None:
    call, put_off = RuntimeLibrary.call, []

    def late(library: RuntimeLibrary, name: str, *arguments: Any) -> None:
        if name == "rknn_inputs_set":
            put_off.append(arguments)
            return
        if name == "rknn_run":
            call(library, "rknn_inputs_set", *put_off.pop())
        call(library, name, *arguments)

    monkeypatch.setattr(RuntimeLibrary, "call", late)
    trial = tried(device, AGAIN)
    assert trial.ok is False
    assert trial.said.startswith("wrong numbers")
