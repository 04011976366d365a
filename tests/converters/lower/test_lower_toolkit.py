"""What lowering is for: the real toolkit compiles these, and failed on each of them as it was."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.lower.lower import lower
from ort_rknn_converters.pipeline.prepare import prepare
from ort_rknn_converters.targets import find_target
from ort_rknn_converters.toolkit.compile import CompileRequest, compile_segment
from tests.helpers.assert_same import run_cpu
from tests.helpers.onnx_models import build, one_op, random

pytestmark = [pytest.mark.toolkit, pytest.mark.timeout(300)]

LONG = "layer/" * 40


def recurrent(op: str, gates: int) -> onnx.ModelProto:
    constants = {"w": random(1, gates * 4, 3, seed=1), "r": random(1, gates * 4, 4, seed=2)}
    node = helper.make_node(op, ["x", *constants], ["", "y"], hidden_size=4)
    return build([node], {"x": random(5, 2, 3)}, ["y"], constants)


def long_names() -> onnx.ModelProto:
    nodes = [helper.make_node("Sigmoid", [LONG + "x"], [LONG + "y"], name=LONG)]
    return build(nodes, {LONG + "x": random(2, 3)}, [LONG + "y"])


def odd_forms() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Pad", ["x", "pads", "", "axes"], ["p"]),
        helper.make_node("Split", ["p"], ["a", "b"], axis=1, num_outputs=2),
        helper.make_node("Mul", ["b", "scalar"], ["c"]),
    ]
    inputs = {"x": random(2, 3), "scalar": np.array(2.5, np.float32)}
    return build(nodes, inputs, ["a", "c"], {"pads": np.array([1, 1]), "axes": np.array([1])})


def attention() -> onnx.ModelProto:
    feed = {name: random(1, 2, 4, 8, seed=index) for index, name in enumerate("qkv")}
    return one_op("Attention", feed, opset=23, is_causal=1)


def plain_layer_norm() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("LayerNormalization", ["a", "scale", "bias"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    return build(
        nodes,
        {"x": random(1, 16, 64)},
        ["y"],
        {"w": random(64, 64, seed=1), "scale": random(64, seed=2), "bias": random(64, seed=3)},
    )


def zeros_before_a_max_pool() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Softplus", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Pad", ["b", "pads"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2], strides=[1, 1]),
    ]
    return build(nodes, {"x": random(1, 4, 6, 6)}, ["y"], {"pads": np.array([0, 0, 0, 0, 0, 0, 1, 1])})


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (recurrent("LSTM", 4), "exLSTM"),
        (recurrent("GRU", 3), "exGRU"),
        (long_names(), "Sigmoid"),
        (odd_forms(), "Split"),
        (attention(), "exSDPAttention"),
        (one_op("RMSNormalization", {"x": random(2, 3, 8)}, {"scale": random(8)}, opset=23), "exNorm"),
        (plain_layer_norm(), "exNorm"),
        (zeros_before_a_max_pool(), "Pad"),
        (
            one_op("GatherElements", {"x": random(4, 8, 8)}, {"at": np.arange(256).reshape(4, 8, 8) % 7}, axis=-1),
            "exMatMul",
        ),
    ],
    ids=["LSTM", "GRU", "long names", "odd forms", "Attention", "RMSNorm", "LayerNorm", "zeros", "GatherElements"],
)
def test_the_toolkit_compiles_it_right(model: onnx.ModelProto, layer: str) -> None:
    segment = onnx_graph.to_proto(prepare(onnx_graph.load(model)).model)
    lowered = lower(segment, find_target("rk3588"))
    rng = np.random.default_rng(0)
    fed = {item.name: rng.standard_normal(item.shape).astype(item.dtype) for item in lowered.inputs}
    result = compile_segment(CompileRequest(lowered.model.read(), "rk3588", feeds=(fed,)))
    assert not result.no_lowering
    assert not result.dropped_inputs
    assert not result.dropped_outputs
    assert layer in [row.op_type for row in result.layers]

    shapes = {info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim] for info in segment.graph.input}
    original = {lowered.names.get(name, name): array for name, array in fed.items()}
    expected = run_cpu(segment, {name: array.reshape(shapes[name]) for name, array in original.items()})
    for item in lowered.outputs:
        wanted = expected[lowered.names.get(item.name, item.name)]
        got = result.outputs[0][item.name].reshape(wanted.shape)
        assert np.abs(got - wanted).max() <= 5e-3 * np.abs(wanted).max()
