from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.infer import infer, skeleton
from ort_rknn_converters.graph.infer_contrib import infer_contrib
from ort_rknn_converters.pipeline.prepare import prepare
from tests.helpers.onnx_models import build, check_prepared, one_op, random
from tests.helpers.versions import needs_onnxruntime


def test_every_value_gets_type_and_shape() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    model = onnx_graph.load(build(nodes, {"x": (TensorProto.FLOAT, ["N", 4])}, ["y"], {"w": random(4, 5)}))
    infer(model)
    for node in model.graph:
        assert onnx_graph.value_info(node.outputs[0]).dtype == "tensor(float)"
        assert onnx_graph.dims(node.outputs[0]) == ("N", 5)


def test_shapes_flow_through_shape_arithmetic() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Slice", ["s", "zero", "one"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([2, 2])}
    model = onnx_graph.load(build(nodes, {"x": (TensorProto.FLOAT, ["N", 4])}, ["y"], constants))
    infer(model)
    assert onnx_graph.dims(model.graph.outputs[0]) == ("N", 2, 2)


def test_skeleton_leaves_big_weights_out_and_the_model_as_it_was() -> None:
    model = onnx_graph.load(one_op("MatMul", {"x": random(2, 600)}, {"w": random(600, 600)}))
    before = onnx_graph.to_bytes(model)
    with skeleton(model) as proto:
        assert proto.ByteSize() < 1000
        inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    assert [dim.dim_value for dim in inferred.graph.output[0].type.tensor_type.shape.dim] == [2, 600]
    assert onnx_graph.to_bytes(model) == before


def test_contradictions_only_raise_when_asked() -> None:
    model = onnx_graph.load(one_op("MatMul", {"x": random(2, 3)}, {"w": random(4, 5)}))
    infer(model)
    with pytest.raises(onnx.shape_inference.InferenceError):
        infer(model, strict=True)


def contrib() -> onnx.ModelProto:
    nodes = [
        helper.make_node("FusedMatMul", ["x", "w"], ["a"], domain="com.microsoft", transB=1),
        helper.make_node("QuickGelu", ["a"], ["b"], domain="com.microsoft"),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    return build(nodes, {"x": random(2, 64)}, ["y"], {"w": random(128, 64)}, domains=["com.microsoft"])


def test_onnxruntime_knows_its_own_ops() -> None:
    model = onnx_graph.load(contrib())
    infer(model)
    assert model.graph[0].outputs[0].type is None
    before = list(model.graph.initializers)
    assert infer_contrib(model)
    assert [onnx_graph.static_shape(node.outputs[0]) for node in model.graph][:2] == [(2, 128), (2, 128)]
    assert list(model.graph.initializers) == before
    assert len(model.graph.inputs) == 1
    assert onnx_graph.constant(model.graph.initializers["w"]) is not None
    feed = {"x": random(2, 64)}
    prepared = check_prepared(contrib(), feed)
    assert onnx_graph.static_shape(prepared.graph.outputs[0]) == (2, 128)


def test_shapes_behind_each_layer_of_onnxruntimes_own_ops() -> None:
    nodes, below = [], "x"
    for layer in "abc":
        nodes += [
            helper.make_node("SkipLayerNormalization", [below, "skip", "w"], [f"{layer}0"], domain="com.microsoft"),
            helper.make_node("Shape", [f"{layer}0"], [f"{layer}1"]),
            helper.make_node("Gather", [f"{layer}1", "one"], [f"{layer}2"]),
            helper.make_node("Concat", [f"{layer}2", "rest"], [f"{layer}3"], axis=0),
            helper.make_node("Reshape", [f"{layer}0", f"{layer}3"], [f"{layer}4"]),
            helper.make_node("Unsqueeze", [f"{layer}4", "zero"], [f"{layer}5"]),
        ]
        below = f"{layer}5"
    feed = {"x": random(1, 3, 4), "skip": random(1, 3, 4, seed=1)}
    constants = {"w": random(4), "one": np.array([1]), "zero": np.array([0]), "rest": np.array([4])}
    model = build(
        nodes,
        {"x": (onnx.TensorProto.FLOAT, [1, "n", 4]), "skip": (onnx.TensorProto.FLOAT, [1, "n", 4])},
        ["c5"],
        constants,
        domains=["com.microsoft"],
    )
    ops = [node.op_type for node in check_prepared(model, feed, dims={"n": 3}, rtol=1e-4).graph]
    assert not {"Shape", "SkipLayerNormalization"} & set(ops)


@needs_onnxruntime("1.24", "it infers what the op's function does")
def test_ops_without_inference_in_the_standard() -> None:
    feed = {"x": random(1, 4, 3).astype(np.float64), "s": np.ones(4), "b": np.zeros(4)}
    model = onnx_graph.load(one_op("GroupNormalization", feed, opset=21, num_groups=2))
    infer(model)
    assert model.graph.outputs[0].type is None
    assert onnx_graph.static_shape(prepare(model).model.graph.outputs[0]) == (1, 4, 3)


def test_ops_nobody_knows_are_left() -> None:
    nodes = [helper.make_node("Secret", ["x"], ["a"], domain="mine"), helper.make_node("Relu", ["a"], ["y"])]
    model = onnx_graph.load(build(nodes, {"x": random(2)}, ["y"], domains=["mine"]))
    assert not infer_contrib(model)
    assert [node.op_type for node in prepare(model).model.graph] == ["Secret", "Relu"]


def test_long_lists_are_not_followed_element_by_element() -> None:
    """ONNX's inference would make a dimension of each, and a Concat of a Concat multiplies them."""
    nodes = [helper.make_node("Concat", [f"c{step}"] * 4, [f"c{step + 1}"], axis=0) for step in range(12)]
    fill = helper.make_node("ConstantOfShape", ["s"], ["c0"])
    model = onnx_graph.load(build([fill, *nodes], {"x": random(1)}, ["c12"], {"s": np.array([1 << 18])}))
    infer(model)
    (found,) = model.graph.outputs
    assert onnx_graph.static_shape(found) == (1 << 42,)


def test_values_are_followed_where_a_dimension_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of ONNX's inference that follows nothing is enough for a model that it knows all of."""
    followed: list[bool] = []
    real = onnx.shape_inference.infer_shapes

    def noted(*given: Any, data_prop: bool = False, **more: Any) -> onnx.ModelProto:
        followed.append(data_prop)
        return real(*given, data_prop=data_prop, **more)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", noted)
    known = onnx_graph.load(build([helper.make_node("Relu", ["x"], ["y"])], {"x": random(2, 3)}, ["y"]))
    infer(known)
    assert onnx_graph.static_shape(known.graph.outputs[0]) == (2, 3)
    assert followed == [False]

    followed.clear()
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Concat", ["s", "one"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["y"]),
    ]
    computed = onnx_graph.load(build(nodes, {"x": random(2, 3)}, ["y"], {"one": np.array([1])}))
    infer(computed)
    assert onnx_graph.static_shape(computed.graph.outputs[0]) == (2, 3, 1)
    assert followed == [False, True]
