"""The flows: every file is one, and what they say about a case."""

from __future__ import annotations

from pathlib import Path

import pytest

import ort_rknn_conformance.flows as flows
from ort_rknn.devices.base import Device
from ort_rknn.devices.choose import DeviceOptions, choose
from ort_rknn.options import RknnOptions
from ort_rknn_conformance.flows import FLOWS, Flow, find_flow
from tests.helpers.emulator import build_emulator


def test_every_file_is_a_known_flow() -> None:
    files = {path.stem for path in Path(flows.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == set(FLOWS)


@pytest.mark.parametrize("name", FLOWS)
def test_flow_is_complete(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "emulated":
        monkeypatch.setenv("ORT_RKNN_RUNTIME_LIBRARY", str(build_emulator()))
    flow = find_flow(name)
    assert flow.name == name
    assert flow.about
    for reason in (*flow.skips.values(), *flow.xfails.values()):
        assert len(reason.split()) >= 3, "a reason is a sentence"
    options = RknnOptions.parse(flow.provider_options("rk3588", "fp16", min_gain=0))
    assert (options.target, options.min_gain) == ("rk3588", 0)
    choice = choose(flow.wish("rk3576"), DeviceOptions(target="rk3576"))
    if choice.device is None:  # no board
        assert name in ("npu", "lite")
        assert choice.reason
        return
    assert isinstance(choice.device, Device)
    assert choice.device.name == ("npu" if name == "emulated" else name)
    if name in ("emulated", "simulator"):
        assert choice.device.cores == 2
    choice.device.close()


def test_without_an_emulator_the_flow_says_how_to_get_one() -> None:
    choice = choose(find_flow("emulated").wish("rk3588"))
    assert choice.device is None
    assert "make emulator" in choice.reason


def test_unknown_flow_lists_the_known() -> None:
    with pytest.raises(ValueError, match="simulator, toolkit, cpu"):
        find_flow("npu9")


def test_marks() -> None:
    flow = Flow("f", "cpu", "", skips={"node/*_a": "one"}, xfails={"node/*": "two"})
    assert flow.mark("node/x_a") == ("skip", "one")
    assert flow.mark("node/x_b") == ("xfail", "two")
    assert flow.mark("simple/x") is None
