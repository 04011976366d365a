from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.pipeline.convert import convert
from tests.helpers.onnx_models import check_prepared, one_op, random


@pytest.mark.parametrize(("opset", "scale_size"), [(18, 2), (21, 6)])
@pytest.mark.parametrize("shape", [(2, 6, 4, 5), (1, 6, 7), (1, 6, 2, 3, 4)])
@pytest.mark.parametrize("constant", [True, False])
def test_group_normalization(opset: int, scale_size: int, shape: tuple[int, ...], constant: bool) -> None:
    x, scale, bias = random(*shape) * 3 + 1, random(scale_size, seed=1), random(scale_size, seed=2)
    feed, constants = {"x": x}, {"scale": scale, "bias": bias}
    if not constant:
        feed, constants = {**feed, **constants}, {}
    model = one_op("GroupNormalization", feed, constants, opset=opset, num_groups=2, epsilon=1e-3)
    prepared = check_prepared(model, feed, gone=["GroupNormalization"], rtol=1e-4)
    assert "InstanceNormalization" in [node.op_type for node in prepared.graph]


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_rms_normalization(axis: int) -> None:
    x = random(2, 3, 8)
    feed, constants = {"x": x}, {"scale": random(*x.shape[axis:], seed=1)}
    model = one_op("RMSNormalization", feed, constants, opset=23, axis=axis, epsilon=1e-4)
    check_prepared(model, feed, ops=["Mul", "ReduceMean", "Add", "Sqrt", "Div", "Mul"])


def test_half_precision_is_computed_wide() -> None:
    feed, constants = {"x": random(2, 8, dtype=np.float16) * 30}, {"scale": np.ones(8, np.float16)}
    prepared = check_prepared(one_op("RMSNormalization", feed, constants, opset=23), feed, gone=["RMSNormalization"])
    assert [node.op_type for node in prepared.graph].count("Cast") == 2


@pytest.mark.parametrize("attributes", [{}, {"axes": [0, 1, 2, 3]}])
@pytest.mark.parametrize("opset", [9, 13, 18])
def test_mean_variance_normalization(opset: int, attributes: dict[str, Any]) -> None:
    feed = {"x": random(2, 3, 4, 5) + 2}
    model = one_op("MeanVarianceNormalization", feed, opset=opset, **attributes)
    check_prepared(model, feed, gone=["MeanVarianceNormalization"], rtol=1e-4)


@pytest.mark.parametrize("given", [["scale"], ["bias"], ["scale", "bias"]])
def test_layer_normalization_with_a_runtime_scale_or_bias(given: list[str]) -> None:
    weights = {"scale": random(3, 8, seed=1), "bias": random(3, 8, seed=2)}
    feed = {"x": random(2, 3, 8), **{name: weights[name] for name in given}}
    constants = {name: array for name, array in weights.items() if name not in given}
    model = one_op("LayerNormalization", feed, constants, order=["x", "scale", "bias"], axis=-2, epsilon=1e-3)
    prepared = check_prepared(model, feed, rtol=1e-4)
    ops = [node.op_type for node in prepared.graph]
    assert [op for op in ops if op != "Reshape"] == ["LayerNormalization", "Mul", "Add"]
    assert all(value.const_value is not None for value in prepared.graph[0].inputs[1:] if value is not None)


@pytest.mark.parametrize("op", ["LayerNormalization", "SimplifiedLayerNormalization"])
def test_norms_that_onnxruntime_writes_into_old_models(op: str) -> None:
    feed, constants = {"x": random(2, 3, 8)}, {"scale": random(8, seed=1)}
    if op == "LayerNormalization":
        constants["bias"] = random(8, seed=2)
    prepared = check_prepared(one_op(op, feed, constants, opset=14, epsilon=1e-3, axis=-1), feed, gone=[op], rtol=1e-4)
    assert prepared.graph.outputs[0].shape == [2, 3, 8]


def test_layer_normalization_stays() -> None:
    feed, constants = {"x": random(2, 8)}, {"scale": random(8, seed=1)}
    check_prepared(one_op("LayerNormalization", feed, constants), feed, ops=["LayerNormalization"])


@pytest.mark.parametrize(("shape", "axis"), [((1, 4, 6, 5), 1), ((2, 3, 4, 5), -2), ((2, 2, 3, 4, 5), 2)])
def test_layer_normalization_over_several_axes(shape: tuple[int, ...], axis: int) -> None:
    along = shape[axis:]
    constants = {"scale": random(*along, seed=1), "bias": random(*along, seed=2)}
    model = one_op("LayerNormalization", {"x": random(*shape)}, constants, opset=17, axis=axis)
    prepared = check_prepared(model, {"x": random(*shape, seed=3)}, rtol=1e-4)
    (norm,) = (node for node in prepared.graph if node.op_type == "LayerNormalization")
    assert onnx_graph.static_shape(norm.inputs[0]) == (int(np.prod(shape[:axis])), int(np.prod(along)))


@pytest.mark.toolkit
def test_the_toolkit_compiles_several_axes(tmp_path: Path) -> None:
    constants = {"scale": random(16, 16, 16, seed=1), "bias": random(16, 16, 16, seed=2)}
    model = one_op("LayerNormalization", {"x": random(1, 16, 16, 16)}, constants, opset=17, axis=1)
    plan = convert(model, "rk3588", min_gain=0, known_failures=tmp_path).plan
    assert plan.npu_nodes == len(plan.nodes)


@pytest.mark.parametrize(
    ("shape", "ops"),
    [
        ((1, 3, 300, 300), ["Pad", "InstanceNormalization", "Slice"]),
        ((1, 3, 256, 256), ["InstanceNormalization"]),
        ((1, 8, 300, 300), ["InstanceNormalization"]),
    ],
)
def test_few_large_channels(shape: tuple[int, ...], ops: list[str]) -> None:
    feed = {"x": random(*shape) + 2}
    constants = {"scale": random(shape[1], seed=1), "bias": random(shape[1], seed=2)}
    check_prepared(one_op("InstanceNormalization", feed, constants, opset=17), feed, ops=ops, rtol=1e-3)
