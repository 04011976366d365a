from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.extract import extract
from ort_rknn_converters.pipeline.prepare import prepare
from tests.helpers.assert_same import run_cpu
from tests.helpers.onnx_models import EDGES, build, check_prepared, random
from tests.helpers.versions import needs_onnxruntime

DOMAIN = "com.microsoft"


def contrib(
    op: str,
    feed: dict[str, np.ndarray],
    constants: dict[str, np.ndarray] | None = None,
    *,
    order: list[str] | None = None,
    outputs: tuple[str, ...] = ("y",),
    opset: int = 14,
    **attributes: Any,
) -> onnx.ModelProto:
    names = order if order is not None else [*feed, *(constants or {})]
    node = helper.make_node(op, names, list(outputs), domain=DOMAIN, **attributes)
    return build([node], feed, [name for name in outputs if name], constants, opset=opset, domains=[DOMAIN])


@pytest.mark.parametrize("op", ["Gelu", "FastGelu", "QuickGelu"])
@pytest.mark.parametrize("values", [EDGES[np.abs(EDGES) < 1e10], random(2, 3, 4)], ids=["edges", "3-d"])
def test_activations(op: str, values: np.ndarray) -> None:
    check_prepared(contrib(op, {"x": values}), {"x": values}, gone=[op], rtol=1e-4)


@pytest.mark.parametrize("op", ["BiasGelu", "FastGelu"])
def test_activations_with_a_bias(op: str) -> None:
    feed = {"x": random(2, 3, 4)}
    check_prepared(contrib(op, feed, {"b": random(4, seed=1)}), feed, gone=[op], rtol=1e-4)


@pytest.mark.parametrize("turn_a", [0, 1])
@pytest.mark.parametrize("turn_b", [0, 1])
def test_fused_matmul(turn_a: int, turn_b: int) -> None:
    feed = {
        "a": random(2, 4, 3) if turn_a else random(2, 3, 4),
        "b": random(5, 4, seed=1) if turn_b else random(4, 5, seed=1),
    }
    model = contrib("FusedMatMul", feed, transA=turn_a, transB=turn_b, alpha=0.5)
    check_prepared(model, feed, gone=["FusedMatMul"])


def test_fused_matmul_of_turned_batches_stays() -> None:
    feed = {"a": random(3, 2, 4), "b": random(2, 4, 5)}
    check_prepared(contrib("FusedMatMul", feed, transBatchA=1), feed, ops=["FusedMatMul"])


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("bias", [True, False])
def test_skip_layer_normalization(opset: int, bias: bool) -> None:
    feed = {"x": random(2, 3, 8), "skip": random(2, 3, 8, seed=1)}
    constants = {"gamma": random(8, seed=2), "beta": random(8, seed=3)}
    if bias:
        constants["bias"] = random(8, seed=4)
    outputs = ("y", "", "", "total")
    model = contrib("SkipLayerNormalization", feed, constants, outputs=outputs, opset=opset, epsilon=1e-3)
    prepared = check_prepared(model, feed, gone=["SkipLayerNormalization"], rtol=1e-4)
    assert ("LayerNormalization" in [node.op_type for node in prepared.graph]) == (opset == 17)


def test_skip_simplified_layer_normalization() -> None:
    feed = {"x": random(2, 3, 8), "skip": random(2, 3, 8, seed=1)}
    model = contrib("SkipSimplifiedLayerNormalization", feed, {"gamma": random(8, seed=2)}, epsilon=1e-3)
    check_prepared(model, feed, gone=["SkipSimplifiedLayerNormalization"], rtol=1e-4)


def test_embedding() -> None:
    ids = np.array([[1, 2, 3], [0, 4, 2]], np.int32)
    feed = {"ids": ids, "kinds": (ids > 2).astype(np.int32)}
    constants = {
        "word": random(5, 8),
        "place": random(7, 8, seed=1),
        "kind": random(2, 8, seed=2),
        "gamma": random(8, seed=3),
        "beta": random(8, seed=4),
    }
    model = contrib("EmbedLayerNormalization", feed, constants, outputs=("y", "mask"), epsilon=1e-3)
    del model.graph.output[1:]
    check_prepared(model, feed, gone=["EmbedLayerNormalization"], rtol=1e-4)


@pytest.mark.parametrize("masked", [True, False])
def test_embedding_that_counts_what_is_not_masked(masked: bool) -> None:
    feed = {"ids": np.array([[1, 2, 3], [0, 4, 2]], np.int32)}
    constants = {"word": random(5, 8), "place": random(7, 8, seed=1), "gamma": random(8, seed=3)}
    order = ["ids", "", "word", "place", "", "gamma", "beta"]
    constants["beta"] = random(8, seed=4)
    if masked:
        feed["mask"] = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
        order.append("mask")
    model = contrib("EmbedLayerNormalization", feed, constants, outputs=("y", "lengths"), order=order)
    model.graph.output[1].type.CopyFrom(helper.make_tensor_type_proto(onnx.TensorProto.INT32, [2]))
    check_prepared(model, feed, gone=["EmbedLayerNormalization"], rtol=1e-4)


@pytest.mark.parametrize(
    ("activation", "numbers"), [("Relu", []), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.5]), ("HardSigmoid", [0.2, 0.5])]
)
def test_fused_conv(activation: str, numbers: list[float]) -> None:
    feed, constants = {"x": random(1, 3, 8, 8)}, {"w": random(4, 3, 3, 3, seed=1), "b": random(4, seed=2)}
    attributes: dict[str, Any] = {"activation": activation, "pads": [1, 1, 1, 1], "strides": [2, 2]}
    if numbers:
        attributes["activation_params"] = numbers
    check_prepared(contrib("FusedConv", feed, constants, **attributes), feed, ops=["Conv", activation], rtol=1e-4)


B, S, N, D = 2, 4, 2, 8


@pytest.mark.parametrize("mask", ["", "lengths", "2-d", "3-d"])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention(mask: str, causal: int) -> None:
    feed = {"x": random(B, S, 6)}
    constants = {"w": random(6, 3 * N * D, seed=1), "b": random(3 * N * D, seed=2)}
    order = ["x", "w", "b"]
    if mask:
        rows = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], np.int32)
        masks = {"lengths": rows.sum(1, dtype=np.int32), "2-d": rows, "3-d": np.repeat(rows[:, None], S, axis=1)}
        feed["mask"] = masks[mask]
        order.append("mask")
    model = contrib("Attention", feed, constants, order=order, num_heads=N, unidirectional=causal)
    check_prepared(model, feed, gone=["Attention"], rtol=1e-4)


@pytest.mark.parametrize(
    "mask", [pytest.param(True, marks=needs_onnxruntime("1.21", "a mask and an added bias are both counted")), False]
)
@pytest.mark.parametrize("bias", [True, False])
def test_multi_head_attention(mask: bool, bias: bool) -> None:
    feed = {"q": random(B, S, N * D), "k": random(B, 5, N * D, seed=1), "v": random(B, 5, N * D, seed=2)}
    constants = {"bias": random(3 * N * D, seed=3)} if bias else {}
    order = ["q", "k", "v", "bias" if bias else "", "mask" if mask else "", "added"]
    feed["added"] = random(1, N, S, 5, seed=4)
    if mask:
        feed["mask"] = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], np.int32)
    model = contrib("MultiHeadAttention", feed, constants, order=order, num_heads=N, scale=0.3)
    check_prepared(model, feed, gone=["MultiHeadAttention"], rtol=1e-4)


def test_a_cache_of_the_past_stays() -> None:
    feed = {
        "q": random(B, 1, N * D),
        "k": random(B, 1, N * D, seed=1),
        "v": random(B, 1, N * D, seed=2),
        "past_k": random(B, N, 3, D, seed=3),
        "past_v": random(B, N, 3, D, seed=4),
    }
    order = ["q", "k", "v", "", "", "", "past_k", "past_v"]
    model = contrib("MultiHeadAttention", feed, order=order, outputs=("y", "key", "value"), num_heads=N)
    check_prepared(model, feed, ops=["MultiHeadAttention"])


@pytest.mark.parametrize("op", ["LayerNormalization", "SimplifiedLayerNormalization"])
@pytest.mark.parametrize("axis", [-1, 1])
def test_normalizations_older_than_the_standards(op: str, axis: int) -> None:
    feed, shape = {"x": random(2, 3, 8)}, (8,) if axis == -1 else (3, 8)
    constants = {"scale": random(*shape, seed=1)}
    if op == "LayerNormalization":
        constants["bias"] = random(*shape, seed=2)
    node = helper.make_node(op, ["x", *constants], ["y"], axis=axis, epsilon=1e-3)
    model = build([node], feed, ["y"], constants, opset=14)
    # The standard's checker knows no such node.
    expected = run_cpu(model, feed)["y"]
    prepared = prepare(onnx_graph.load(model)).model
    assert op not in [node.op_type for node in prepared.graph]
    np.testing.assert_allclose(run_cpu(onnx_graph.to_proto(prepared), feed)["y"], expected, rtol=1e-4, atol=1e-5)


def test_a_model_with_a_node_the_standards_checker_does_not_know_can_be_cut() -> None:
    feed = {"x": random(2, 3, 8)}
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y", "mean"], axis=-1),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    model = build(nodes, feed, ["z", "mean"], {"scale": random(8), "bias": random(8)}, opset=14)
    prepared = prepare(onnx_graph.load(model)).model
    assert extract(prepared, [node.name or "" for node in prepared.graph], ["x"], ["z", "mean"]).graph.node
