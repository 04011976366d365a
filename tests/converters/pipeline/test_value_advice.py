from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.dataflow import DataFlow
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.partition import partition
from ort_rknn_converters.pipeline.prepare import prepare
from ort_rknn_converters.pipeline.value_advice import value_advice
from ort_rknn_converters.targets import find_target
from tests.helpers.onnx_models import build, random


def test_the_input_that_shapes_hang_on_is_named() -> None:
    nodes = [
        helper.make_node("Concat", ["one", "ratio", "ratio"], ["scales"], axis=0),
        helper.make_node("Resize", ["x", "", "scales"], ["small"], mode="linear", name="shrink"),
        helper.make_node("Relu", ["small"], ["r"]),
        helper.make_node("Neg", ["r"], ["y"]),
    ]
    inputs = {"x": random(1, 3, 8, 8), "ratio": (TensorProto.FLOAT, [1])}
    made = build(nodes, inputs, ["y"], {"one": np.ones(2, np.float32)}, opset=17)
    model = prepare(onnx_graph.load(made)).model
    plan = partition(model, find_target("rk3588"), ConvertOptions(min_gain=0))
    (said,) = value_advice(DataFlow.of(model.graph), plan)
    assert said.startswith("3 nodes: shapes follow from the value of input ratio (from Resize shrink on)")
    assert "--value ratio=... makes them known" in said
