from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.prepare import prepare
from tests.helpers.assert_same import run_cpu
from tests.helpers.onnx_models import build, random
from tests.helpers.quantized import by_onnxruntime

STEP = 0.02
"""Relative: 8 bits of what is multiplied, 1 %, and room."""


def off(model: onnx.ModelProto, feed: dict[str, np.ndarray], gone: set[str]) -> float:
    prepared = onnx_graph.to_proto(prepare(onnx_graph.load(model), ConvertOptions()).model)
    assert not gone & {node.op_type for node in prepared.graph.node}
    wanted, got = run_cpu(model, feed)["y"], run_cpu(prepared, feed)["y"]
    return float(np.sqrt(np.mean((wanted - got) ** 2) / np.mean(wanted**2)))


def perceptron() -> onnx.ModelProto:
    constants = {"w": random(16, 32, seed=1) / 4, "b": random(32, seed=2), "v": random(32, 4, seed=3) / 5}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "v"], ["y"]),
    ]
    return build(nodes, {"x": random(3, 16)}, {"y": random(3, 4)}, constants)


@pytest.mark.parametrize("by_channel", [False, True])
def test_matrices(by_channel: bool) -> None:
    made = by_onnxruntime(perceptron(), [], "dynamic", per_channel=by_channel)
    assert off(made, {"x": random(3, 16, seed=5)}, {"MatMulInteger", "DynamicQuantizeLinear", "Cast"}) < STEP


@pytest.mark.parametrize("by_channel", [False, True])
def test_images(by_channel: bool) -> None:
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1] * 4, strides=[2, 2])]
    constants = {"w": random(6, 3, 3, 3, seed=1), "b": random(6, seed=2)}
    made = build(nodes, {"x": random(1, 3, 8, 8)}, {"y": random(1, 6, 4, 4)}, constants)
    made = by_onnxruntime(made, [], "dynamic", per_channel=by_channel)
    assert off(made, {"x": random(1, 3, 8, 8, seed=5)}, {"ConvInteger", "DynamicQuantizeLinear"}) < STEP


def test_the_fused_form() -> None:
    whole = np.random.default_rng(0).integers(0, 255, (16, 4)).astype(np.uint8)
    constants = {"w": whole, "s": np.array([0.01], np.float32), "z": np.array([120], np.uint8), "b": random(4)}
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s", "z", "b"], ["y"], domain="com.microsoft")
    made = build([node], {"x": random(3, 16)}, {"y": random(3, 4)}, constants, domains=["com.microsoft"])
    assert off(made, {"x": random(3, 16, seed=5)}, {"DynamicQuantizeMatMul"}) < STEP


def test_whole_sums_that_nobody_scales_are_left() -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["p"]),
        helper.make_node("Cast", ["p"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    made = build(nodes, {"x": random(3, 16)}, {"y": random(3, 4)}, {"w": np.ones((16, 4), np.int8)})
    assert off(made, {"x": random(3, 16, seed=5)}, set()) == 0
    left = [node.op_type for node in prepare(onnx_graph.load(made), ConvertOptions()).model.graph]
    assert left == ["DynamicQuantizeLinear", "MatMulInteger", "Cast"]
