"""Planted errors are found at their node and cured: one layer beyond fp16's range, and one with a swapped layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn_conformance.case import Case, CaseError, Settings
from ort_rknn_conformance.cli import check
from ort_rknn_conformance.diagnose.check_model import examine
from ort_rknn_conformance.diagnose.vendor_analysis import vendor_errors
from ort_rknn_conformance.flows import Flow, find_flow
from ort_rknn_converters.options_file import read_options
from tests.helpers.broken_device import SwappingDevice

SETTINGS = Settings(min_gain=0.0)
SIMULATOR = find_flow("simulator")

# scale makes values of some 1e5 out of data of some 50, unscale takes it back
OVERFLOW = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
  [before] a = Relu (x) [scale] b = Mul (a, big) [unscale] c = Mul (b, small) [act] d = Neg (c)
  [after] y = Sub (d, x)
}"""
SWAP = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
  [before] a = Relu (x) [turn] b = Transpose <perm = [0, 2, 1, 3]> (a) [act] c = Sigmoid (b)
  [shift] d = Add (c, small) [back] y = Reshape (d, shape)
}"""


def _model(text: str) -> onnx.ModelProto:
    graph = parse_graph(text)
    constants = {
        "big": np.float32(3000),
        "small": np.float32(1 / 3000),
        "shape": np.array([1, 4, 8, 8], np.int64),
    }
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items() if k in used)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _case(text: str) -> Case:
    data = np.random.default_rng(0).normal(0, 25, (3, 1, 4, 8, 8)).astype(np.float32)
    return Case("m", _model(text).SerializeToString(), tuple({"x": sample} for sample in data))


@pytest.mark.toolkit
def test_overflow_is_located_and_cured() -> None:
    case = _case(OVERFLOW)
    found = examine(case, SIMULATOR, SETTINGS, layers=True, fix=True)
    assert found.result.verdict == "wrong"
    worst = found.result.layers[0]
    assert worst.node == "scale"
    assert worst.peak > 65504
    assert worst.nan_mismatch > 0
    assert "--cpu-node scale" in worst.advice
    assert [row.node for row in found.result.layers if row.advice] == ["scale"]
    assert found.fix is not None
    assert found.fix.nodes == {"scale", "unscale"}  # what is beyond fp16 cannot enter the NPU either
    assert found.fix.result.verdict == "right"
    assert found.fix.smallest
    assert found.result.cure == ("scale", "unscale")


@pytest.mark.toolkit
def test_swapped_layout_is_located_and_cured() -> None:
    flow = Flow("simulator", lambda target: SwappingDevice(), "a broken simulator")
    found = examine(_case(SWAP), flow, SETTINGS, fix=True)
    assert found.result.verdict == "wrong"
    assert found.result.layers[0].node == "turn"
    assert "--cpu-node turn" in found.result.layers[0].advice
    by_name = {row.node: row for row in found.result.layers}
    assert by_name["act"].own is not None
    assert by_name["act"].own < 5e-3  # right by itself
    assert by_name["act"].entire > 5e-3  # but what it is given is not
    assert found.fix is not None
    assert found.fix.nodes == {"turn"}
    assert found.fix.result.verdict == "right"


@pytest.mark.toolkit
def test_layers_of_a_model_that_agrees() -> None:
    found = examine(_case(SWAP), SIMULATOR, SETTINGS, layers=True, fix=True)
    assert found.result.verdict == "right"
    assert found.fix is None
    assert {row.node for row in found.result.layers} == {"before", "turn", "act", "shift", "back"}
    assert not any(row.advice for row in found.result.layers)


@pytest.mark.toolkit
def test_layers_by_the_vendors_simulator() -> None:
    case = replace(_case(OVERFLOW), feeds=_case(OVERFLOW).feeds[:1])
    found = examine(case, find_flow("toolkit"), SETTINGS, layers=True)
    assert found.result.layers[0].node in ("scale", "unscale")
    assert found.result.layers[0].peak > 65504


@pytest.mark.toolkit
def test_the_whole_way_on_the_command_line(tmp_path: Path) -> None:
    onnx.save(_model(OVERFLOW), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.stack([feed["x"] for feed in _case(OVERFLOW).feeds]))
    common = [str(tmp_path / "m.onnx"), "--data", str(tmp_path / "x.npy"), "--min-gain", "0"]
    options = tmp_path / "fix.toml"
    result = CliRunner().invoke(check, [*common, "--layers", "--fix", str(options), "--html", str(tmp_path / "r.html")])
    assert result.exit_code == 1, result.output
    assert "cured with 2 on the CPU" in result.stdout
    assert read_options(options)["cpu_nodes"] == {"scale", "unscale"}
    assert "fp16 ends at 65504" in (tmp_path / "r.html").read_text()
    nodes = [word for name in ("scale", "unscale") for word in ("--cpu-node", name)]
    result = CliRunner().invoke(check, [*common, *nodes])
    assert result.exit_code == 0, result.output


@pytest.mark.toolkit
def test_nothing_to_move() -> None:
    case = _case(OVERFLOW)
    with pytest.raises(CaseError, match="CPU onnxruntime"):
        examine(replace(case, feeds=({"x": np.zeros(3, np.float32)},)), SIMULATOR, SETTINGS, layers=True)


@pytest.mark.toolkit
def test_the_vendors_analysis_stands_beside_ours() -> None:
    found = examine(_case(OVERFLOW), SIMULATOR, SETTINGS, layers=True)
    by_name = {row.node: row for row in found.result.layers}
    assert found.vendor_missing == ""
    assert by_name["scale"].vendor_own is None  # the toolkit makes one layer of three
    for name in ("before", "act", "after"):
        assert 0 < (by_name[name].vendor_own or 0.0) < 5e-3


@pytest.mark.toolkit
def test_the_vendors_analysis_of_int8() -> None:
    found = examine(_case(SWAP), SIMULATOR, replace(SETTINGS, precision="int8"), layers=True)
    rows = [row for row in found.result.layers if row.vendor_own is not None]
    assert "back" in {row.node for row in rows}
    assert "before" not in {row.node for row in rows}, "the vendor compares it as int8 with float32"
    assert all(0 < (row.vendor_entire or 0.0) < 0.1 for row in rows)


def test_without_toolkit_the_layers_are_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ort_rknn_conformance.diagnose.vendor_analysis.toolkit_version", lambda: None)
    assert vendor_errors(None, [], []) == ({}, "no toolkit here")  # type: ignore[arg-type]
