"""The emulated NPU with lent arithmetic: numbers go through the runtime's calls, and come out as the simulator's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ort_rknn.api.session import InferenceSession
from ort_rknn.devices.settings import NpuSettings
from ort_rknn.devices.simulator import SimulatorDevice
from ort_rknn_conformance.doctor.board_models import MODELS
from ort_rknn_conformance.flows.emulated_device import EmulatedNpu, is_emulator
from tests.helpers.emulated_npu import feeds, npu, same, segment
from tests.helpers.emulator import Emulator, Model, Tensor, build_emulator, private_copy

BUNDLED = {model.name: model for model in MODELS}


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator of the test's own, with its own counters."""
    made = Emulator(private_copy(build_emulator(), tmp_path))
    yield made
    made.reset()


@pytest.mark.parametrize("name", ["conv", "types", "int8", "operators"])
def test_it_answers_what_the_simulator_answers(name: str, emulator: Emulator) -> None:
    model, answers = BUNDLED[name], []
    (feed,) = model.feeds(1)
    for device in (
        EmulatedNpu(NpuSettings(target="rk3588", runtime_library=emulator.path)),
        SimulatorDevice(target="rk3588"),
    ):
        session = InferenceSession(model.read("rk3588"), providers=["RKNNExecutionProvider"], device=device)
        try:
            answers.append(session.run(None, feed))
        finally:
            session.close()
            device.close()
    assert emulator.count("rknn_run") == (2 if name == "operators" else 1), "one for each segment"
    for emulated, simulated in zip(*answers, strict=True):
        assert (emulated.dtype, emulated.shape) == (simulated.dtype, simulated.shape)
        if emulated.dtype.kind == "f":  # inputs and outputs are float16 on the way
            np.testing.assert_allclose(emulated, simulated, rtol=2e-3, atol=2e-3)
        else:
            np.testing.assert_array_equal(emulated, simulated)
    assert not emulator.misuses()


@pytest.mark.parametrize(("target", "cores"), [("rk3588", 3), ("rk3576", 2), ("rk3566", 1)])
def test_it_has_the_cores_of_the_soc(target: str, cores: int, emulator: Emulator) -> None:
    device = EmulatedNpu(NpuSettings(target=target, runtime_library=emulator.path))
    assert device.cores == cores
    session = InferenceSession(
        BUNDLED["conv"].read(target),
        providers=[("RKNNExecutionProvider", {"schedule": list(range(cores))})],
        device=device,
    )
    list(session.map(None, BUNDLED["conv"].feeds(6)))
    session.close()
    assert all(emulator.count(f"core{core}_runs") for core in range(cores))
    device.close()


def test_a_model_it_was_not_lent_keeps_its_made_up_numbers(emulator: Emulator) -> None:
    EmulatedNpu(NpuSettings(target="rk3588", runtime_library=emulator.path)).close()
    model = Model((Tensor("x", "float16", (1, 3, 4, 4), "nhwc"),), (Tensor("y", "float16", (1, 8)),))
    code = segment(model)
    device = npu(emulator)
    context = device.open(code)
    given = feeds(code)
    same(context.run(given), model.answer(given))
    device.close()


def test_what_is_no_emulator() -> None:
    assert is_emulator(str(build_emulator()))
    assert not is_emulator("libc.so.6")
    assert not is_emulator("/no/such/file.so")
