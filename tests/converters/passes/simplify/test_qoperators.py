from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.helpers.onnx_models import build, check_prepared, random
from tests.helpers.quantized import by_onnxruntime

BYTES = ["DequantizeLinear", "QuantizeLinear"]


def network(opset: int) -> onnx.ModelProto:
    constants = {
        "w": random(8, 3, 3, 3, seed=1) / 5,
        "b": random(8, seed=2) / 10,
        "v": random(8, 1, 3, 3, seed=3) / 3,
        "g": random(5, 16, seed=4) / 4,
        "c": random(5, seed=5),
        "flat": np.array([1, 16], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a0"], pads=[1] * 4),
        helper.make_node("MaxPool", ["a0"], ["a1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("LeakyRelu", ["a1"], ["a2"], alpha=0.1),
        helper.make_node("Conv", ["a2", "v"], ["a3"], pads=[1] * 4, group=8),
        helper.make_node("Add", ["a1", "a3"], ["a4"]),
        helper.make_node("Sigmoid", ["a4"], ["a5"]),
        helper.make_node("Mul", ["a4", "a5"], ["a6"]),
        helper.make_node("AveragePool", ["a6"], ["a7"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("MaxPool", ["a6"], ["a8"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["a7", "a8"], ["a9"], axis=1),
        helper.make_node("Transpose", ["a9"], ["a10"], perm=[0, 1, 3, 2]),
        helper.make_node("GlobalAveragePool", ["a10"], ["a11"]),
        helper.make_node("Reshape", ["a11", "flat"], ["a12"]),
        helper.make_node("Gemm", ["a12", "g", "c"], ["a13"], transB=1),
        helper.make_node("Softmax", ["a13"], ["y"], axis=1),
    ]
    return build(nodes, {"x": random(1, 3, 8, 8)}, {"y": random(1, 5)}, constants, opset=opset)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("by_channel", [False, True])
def test_a_whole_network(opset: int, by_channel: bool) -> None:
    feeds = [{"x": random(1, 3, 8, 8, seed=seed)} for seed in range(4)]
    made = by_onnxruntime(network(opset), feeds, "QOperator", per_channel=by_channel)
    kinds = {node.op_type for node in made.graph.node}
    assert {"QLinearConv", "QGemm", "QLinearConcat", "QLinearSoftmax"} <= kinds
    step = 1 / 256
    for feed in feeds[:2]:
        # One step of the last rounding, where sums are rounded in another order.
        prepared = check_prepared(
            made, feed, gone=sorted(kind for kind in kinds if kind.startswith("Q") and "Qu" not in kind), rtol=4 * step
        )
    assert all(node.domain == "" for node in prepared.graph)
    pools = [node for node in prepared.graph if node.op_type == "MaxPool"]
    assert [node.inputs[0].dtype.name for node in pools] == ["FLOAT", "FLOAT"]  # type: ignore[union-attr]


def test_products_of_matrices_with_a_scale_for_each_column() -> None:
    constants = {
        "w": np.random.default_rng(0).integers(-100, 100, (8, 4)).astype(np.int8),
        "ws": np.linspace(0.01, 0.04, 4).astype(np.float32),
        "wz": np.zeros(4, np.int8),
        "s": np.array(0.02, np.float32),
        "z": np.array(128, np.uint8),
        "t": np.array([0.1], np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearMatMul", ["q", "s", "z", "w", "ws", "wz", "t", "z"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "t", "z"], ["y"]),
    ]
    made = build(nodes, {"x": random(3, 8)}, {"y": random(3, 4)}, constants)
    check_prepared(made, {"x": random(3, 8, seed=7)}, gone=["QLinearMatMul"], rtol=1e-5)


def test_rows_of_a_quantized_table() -> None:
    constants = {
        "table": np.random.default_rng(0).integers(0, 255, (50, 8)).astype(np.uint8),
        "s": np.array(0.02, np.float32),
        "z": np.array(120, np.uint8),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    made = build(nodes, {"ids": np.zeros((1, 4), np.int64)}, {"y": random(1, 4, 8)}, constants)
    check_prepared(made, {"ids": np.array([[3, 49, 0, 7]])}, ops=["Gather"])


def test_scales_of_the_moment_are_left() -> None:
    constants = {
        "w": np.ones((8, 4), np.int8),
        "one": np.array(0.1, np.float32),
        "z": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearMatMul", ["q", "s", "z", "w", "one", "z", "one", "z"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "one", "z"], ["y"]),
    ]
    inputs = {"x": random(3, 8), "s": np.array(0.02, np.float32)}
    made = build(nodes, inputs, {"y": random(3, 4)}, constants)
    check_prepared(made, inputs, ops=[BYTES[1], "QLinearMatMul", BYTES[0]])
