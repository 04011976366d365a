from __future__ import annotations

import onnx
from onnx import helper

from ort_rknn_converters import graph
from ort_rknn_converters.prepare import prepare
from tests.helpers.onnx_models import build, random
from tests.helpers.same import run_cpu

W, X = random(3, seed=1), random(3)


def model(ir_version: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Neg", ["w"], ["n"]), helper.make_node("Add", ["x", "n"], ["y"])]
    made = build(nodes, {"x": X, "w": W}, ["y"], {"w": W}, opset=9)
    made.ir_version = ir_version
    return made


def test_before_version_4_they_are_constants() -> None:
    prepared = prepare(graph.load(model(3)))
    assert "1 weight listed as inputs made constants" in prepared.changes
    assert [node.op_type for node in prepared.model.graph] == ["Add"]
    assert [value.name for value in prepared.model.graph.inputs] == ["x"]
    proto = graph.to_proto(prepared.model)
    onnx.checker.check_model(proto, full_check=True)
    assert (run_cpu(proto, {"x": X})["y"] == X - W).all()


def test_since_version_4_callers_may_feed_them() -> None:
    prepared = prepare(graph.load(model(4)))
    assert [node.op_type for node in prepared.model.graph] == ["Neg", "Add"]
    assert any("callers may feed them" in sentence for sentence in prepared.changes)
    proto = graph.to_proto(prepared.model)
    assert (run_cpu(proto, {"x": X, "w": X})["y"] == 0).all()
