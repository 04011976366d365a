"""The flows: every file is one, and what they say about a case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ort_rknn_conformance.flows as flows
from ort_rknn.devices.base import Device
from ort_rknn.devices.choose import choose
from ort_rknn.options import RknnOptions
from ort_rknn_conformance.flows import FLOWS, Flow, find_flow


def test_every_file_is_a_known_flow() -> None:
    files = {path.stem for path in Path(flows.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == set(FLOWS)


@pytest.mark.parametrize("name", FLOWS)
def test_flow_is_complete(name: str) -> None:
    flow = find_flow(name)
    assert flow.name == name
    assert flow.about
    for reason in (*flow.skips.values(), *flow.xfails.values()):
        assert len(reason.split()) >= 3, "a reason is a sentence"
    options = RknnOptions.parse(flow.provider_options("rk3588", "fp16", min_gain=0))
    assert (options.target, options.min_gain) == ("rk3588", 0)
    if callable(flow.device):
        device: Any = flow.device()
    else:
        choice = choose(flow.device)
        if choice.device is None:  # no board
            assert name in ("npu", "lite")
            assert choice.reason
            return
        device = choice.device
    assert isinstance(device, Device)
    assert device.name == name


def test_unknown_flow_lists_the_known() -> None:
    with pytest.raises(ValueError, match="simulator, toolkit, cpu"):
        find_flow("npu9")


def test_marks() -> None:
    flow = Flow("f", "cpu", "", skips={"node/*_a": "one"}, xfails={"node/*": "two"})
    assert flow.mark("node/x_a") == ("skip", "one")
    assert flow.mark("node/x_b") == ("xfail", "two")
    assert flow.mark("simple/x") is None
