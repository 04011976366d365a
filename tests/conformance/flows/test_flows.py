"""The flows: every file is one, and what they say about a case."""

from __future__ import annotations

from pathlib import Path

import pytest

import ort_rknn_conformance.flows as flows
from ort_rknn.devices.base import Device
from ort_rknn.opening.choose_device import DeviceOptions, choose
from ort_rknn.options.table import RknnOptions
from ort_rknn_conformance.case import Case, Settings
from ort_rknn_conformance.flows import FLOWS, PRECISIONS, Flow, find_flow
from ort_rknn_conformance.run.run_case import execute
from ort_rknn_conformance.sources import onnx_node
from tests.helpers.emulator import build_emulator


def test_every_file_is_a_known_flow() -> None:
    files = {path.stem for path in Path(flows.__file__).parent.glob("*.py")} - {"__init__", "emulated_device"}
    assert files == set(FLOWS)


@pytest.mark.parametrize("name", FLOWS)
def test_flow_is_complete(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "emulated":
        monkeypatch.setenv("ORT_RKNN_RUNTIME_LIBRARY", str(build_emulator()))
    flow = find_flow(name)
    assert flow.name == name
    assert flow.about
    for reason in (*flow.lacks.values(), *flow.skips.values(), *flow.xfails.values()):
        assert len(reason.split()) >= 3, "a reason is a sentence"
    options = RknnOptions.parse(flow.provider_options("rk3588", "fp16", min_gain=0))
    assert (options.target, options.min_gain) == ("rk3588", 0)
    choice = choose(flow.wish("rk3576"), DeviceOptions(target="rk3576"))
    if choice.device is None:  # no board
        assert name in ("npu", "lite")
        assert choice.reason
        return
    assert isinstance(choice.device, Device)
    assert choice.device.name == {"emulated": "npu", "remote": "simulator"}.get(name, name)
    if name in ("emulated", "simulator", "remote"):
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


def test_marks_of_one_soc_and_precision() -> None:
    flow = Flow("f", "cpu", "", skips={"rk3566/*:node/*_a": "one"}, xfails={"*/int8:node/*": "two"})
    assert flow.mark("node/x_a", "rk3566", "fp16") == ("skip", "one")
    assert flow.mark("node/x_a", "rk3588", "int8") == ("xfail", "two")
    assert flow.mark("node/x_a", "rk3588", "fp16") is None


def test_what_a_flow_lacks_says_who_has_it() -> None:
    assert "simulator" in (find_flow("toolkit").refusal("rk3576", "mixed") or "")
    for name in ("npu", "simulator", "emulated"):
        assert all(find_flow(name).refusal("rk3576", precision) is None for precision in PRECISIONS)


@pytest.fixture(scope="module")
def conv() -> Case:
    """One of the standard's cases."""
    (case,) = onnx_node.cases(["node/test_basic_conv_with_padding"])
    return case


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One conversion serves all flows."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.mark.toolkit
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["cpu", "simulator", "emulated", "toolkit"])
def test_a_case_on_every_flow_and_precision(
    name: str, precision: str, conv: Case, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = find_flow(name)
    if refusal := flow.refusal("rk3576", precision):
        pytest.skip(refusal)
    if name == "emulated":
        monkeypatch.setenv("ORT_RKNN_RUNTIME_LIBRARY", str(build_emulator()))
    result = execute(conv, flow, Settings("rk3576", precision, cache_dir=cache))
    assert (result.verdict, result.npu_nodes, result.message) == ("right", 1, "")
    (output,) = result.outputs
    assert output.tolerance == (1e-5 if name == "cpu" else {"fp16": 5e-3, "mixed": 0.1}.get(precision, 0.4))
