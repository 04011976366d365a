from __future__ import annotations

import onnx
import pytest
from onnx import helper

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.pipeline.prepare import prepare
from tests.helpers.assert_same import run_cpu
from tests.helpers.onnx_models import build, random

W, X = random(3, seed=1), random(3)


def model(ir_version: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Neg", ["w"], ["n"]), helper.make_node("Add", ["x", "n"], ["y"])]
    made = build(nodes, {"x": X, "w": W}, ["y"], {"w": W}, opset=9)
    made.ir_version = ir_version
    return made


@pytest.mark.parametrize("version", [3, 4, 10])
def test_they_are_constants(version: int) -> None:
    prepared = prepare(onnx_graph.load(model(version)))
    assert "1 weight listed as inputs made constants" in prepared.changes
    assert prepared.model.ir_version == max(version, 4)
    assert [node.op_type for node in prepared.model.graph] == ["Add"]
    assert [value.name for value in prepared.model.graph.inputs] == ["x"]
    proto = onnx_graph.to_proto(prepared.model)
    onnx.checker.check_model(proto, full_check=True)
    assert (run_cpu(proto, {"x": X})["y"] == X - W).all()
