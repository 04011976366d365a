"""Models that round at run time: in floats where that is about the same, and the plan says by how much it is not."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper

from ort_rknn_converters.pipeline import run_time_rounding
from ort_rknn_converters.pipeline.convert import convert, plan_only
from tests.helpers.onnx_models import build, random
from tests.helpers.quantized import by_onnxruntime
from tests.helpers.toolkits.scripted import ScriptedToolkit


def rounded() -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    made = build(nodes, {"x": random(3, 16)}, {"y": random(3, 4)}, {"w": random(16, 4, seed=1)})
    return by_onnxruntime(made, [], "dynamic")


def test_the_plan_says_how_far_it_is_off(tmp_path: Path) -> None:
    compiled = convert(rounded(), compile=ScriptedToolkit(), known_failures=tmp_path, min_gain=0)
    assert {node.op_type for node in compiled.plan.nodes} == {"MatMul", "Relu"}
    assert compiled.plan.npu_nodes == 2
    [note] = [note for note in compiled.plan.notes if "8 bits" in note]
    assert "computed in floats, which rounds less: off by a relative RMS of " in note
    assert compiled.plan.whole is not None
    assert not compiled.plan.whole.problem


def test_what_differs_too_much_keeps_its_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_time_rounding, "_LIMIT", 1e-6)
    plan = plan_only(rounded(), "rk3588", known_failures=tmp_path, min_gain=0)
    assert "MatMulInteger" in {node.op_type for node in plan.nodes}
    [note] = [note for note in plan.notes if "8 bits" in note]
    assert note.startswith("products rounded to 8 bits at run time stay on the CPU: in floats the model is off by")


def test_other_models_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_time_rounding, "_difference", None)
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    assert plan_only(build(nodes, {"x": random(1, 4)}, ["y"]), known_failures=tmp_path).notes == ()
