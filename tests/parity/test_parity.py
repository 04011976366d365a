"""The same call on onnxruntime and on ort_rknn: the same result, or the same exception class and text.

A case is written once (``feeds.py``, ``sessions.py`` ...) and runs on every flow: ``cpu`` is what a machine without an
NPU does, ``simulator`` runs whatever an NPU can run on the simulated one, ``npu`` on the emulated vendor runtime.
The emulator makes its numbers up: there all but the numbers is compared. A case that differs on purpose is listed in
``DIFFERENT`` with its reason; nothing else may.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

import ort_rknn
from tests.helpers.parity import CASES, Bench, Outcome, outcome
from tests.helpers.toolkits.emulated import emulated_npu, emulated_toolkit
from tests.helpers.toolkits.fake import fake_toolkit
from tests.parity import (  # noqa: F401 - they enter their cases
    asynchronous,
    bindings,
    feeds,
    graphs,
    module,
    options,
    sessions,
    sources,
)

SIMULATOR = {"device": "simulator", "min_gain": "0"}
FLOWS: dict[str, list[Any]] = {
    "cpu": [("RKNNExecutionProvider", {"device": "cpu"}), "CPUExecutionProvider"],
    "simulator": [("RKNNExecutionProvider", SIMULATOR), "CPUExecutionProvider"],
    "npu": [("RKNNExecutionProvider", emulated_npu()), "CPUExecutionProvider"],
}


DIFFERENT: dict[tuple[str, str], str] = {
    ("async_without_user_data", flow): "user_data has a default here: programs for EZ RKNN Async leave it out"
    for flow in FLOWS
}
"""Case and flow -> why it differs."""

for _case in ("binding_mixed_model", "typed-mixed", "typed-mixed_list"):
    DIFFERENT[_case, "npu"] = "NonZero's shape is made of numbers, which the emulator makes up"


@pytest.fixture(scope="module", autouse=True)
def _toolkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with fake_toolkit(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="module")
def expected() -> dict[str, Outcome]:
    return {}


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("name", CASES)
def test_same(
    name: str, flow: str, expected: dict[str, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name not in expected:
        (tmp_path / "ort").mkdir()
        os.chdir(tmp_path / "ort")
        expected[name] = outcome(CASES[name], Bench(onnxruntime, ["CPUExecutionProvider"], "."))
    (tmp_path / "ours").mkdir()
    os.chdir(tmp_path / "ours")
    wanted = expected[name]
    if flow == "npu":
        with emulated_toolkit(tmp_path / "cache"):
            ours = outcome(CASES[name], Bench(ort_rknn, FLOWS[flow], ".")).without_numbers()
        wanted = wanted.without_numbers()
    else:
        ours = outcome(CASES[name], Bench(ort_rknn, FLOWS[flow], "."))
    if (name, flow) in DIFFERENT:
        assert ours != wanted, "this no longer differs: take it off the list"
        pytest.xfail(DIFFERENT[name, flow])
    assert ours == wanted


@pytest.mark.parametrize("name", ["two", "mixed", "override", "scalar"])
def test_the_simulator_flow_has_an_npu_part(name: str) -> None:
    from tests.helpers.ort_models import model

    session = ort_rknn.InferenceSession(model(name), providers=FLOWS["simulator"])
    assert session.get_providers() == ["RKNNExecutionProvider", "CPUExecutionProvider"]
    assert session.plan.segments
