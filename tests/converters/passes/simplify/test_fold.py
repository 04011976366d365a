from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.infer import infer
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.passes.base import Context
from ort_rknn_converters.passes.simplify.fold import Fold
from tests.helpers.onnx_models import build, check_prepared, one_op, random

FEED = {"x": random(2, 3, 4)}


def test_shape_arithmetic_of_a_reshape() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    constants = {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1])}
    model = build(nodes, {"x": (TensorProto.FLOAT, ["N", 3, 4])}, ["y"], constants)
    check_prepared(model, FEED, ops=["Reshape"], shapes={"x": (2, 3, 4)})
    check_prepared(model, FEED, ops=["Shape", "Gather", "Unsqueeze", "Concat", "Reshape"])


def test_known_part_of_an_unknown_shape() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], start=1),
        helper.make_node("ConstantOfShape", ["s"], ["z"]),
        helper.make_node("Add", ["x", "z"], ["y"]),
    ]
    check_prepared(build(nodes, {"x": (TensorProto.FLOAT, ["N", 3, 4])}, ["y"]), FEED, ops=["Add"])


def test_rounds_follow_shapes_that_become_known_late() -> None:
    nodes = []
    source = "x"
    for index in range(6):
        # Inference does not see through NonZero, so each round makes one more shape known.
        nodes += [
            helper.make_node("Shape", [source], [f"s{index}"]),
            helper.make_node("Cast", [f"s{index}"], [f"f{index}"], to=TensorProto.FLOAT),
            helper.make_node("Floor", [f"f{index}"], [f"g{index}"]),
            helper.make_node("Cast", [f"g{index}"], [f"t{index}"], to=TensorProto.INT64),
            helper.make_node("Reshape", [source, f"t{index}"], [f"r{index}"]),
        ]
        source = f"r{index}"
    nodes.append(helper.make_node("Relu", [source], ["y"]))
    prepared = check_prepared(build(nodes, FEED, ["y"]), FEED, ops=["Reshape"] * 6 + ["Relu"])
    assert prepared.graph.outputs[0].shape == [2, 3, 4]


@pytest.mark.parametrize("op", ["Shape", "Size"])
def test_an_output_keeps_its_node(op: str) -> None:
    check_prepared(one_op(op, FEED), FEED, ops=[op])


def test_eye_like_of_a_known_shape() -> None:
    nodes = [helper.make_node("EyeLike", ["x"], ["e"], k=1), helper.make_node("Add", ["x", "e"], ["y"])]
    feed = {"x": random(3, 4)}
    check_prepared(build(nodes, feed, ["y"]), feed, ops=["Add"])


def test_weights_are_transposed_once() -> None:
    nodes = [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["x", "t"], ["y"])]
    prepared = check_prepared(build(nodes, FEED, ["y"], {"w": random(5, 4)}), FEED, ops=["MatMul"])
    assert list(prepared.graph.initializers) == ["t"]


def test_growth_is_not_folded() -> None:
    nodes = [helper.make_node("Expand", ["one", "to"], ["big"]), helper.make_node("Add", ["x", "big"], ["y"])]
    constants = {"one": np.ones(1, np.float32), "to": np.array([1024, 1024])}
    feed = {"x": random(1024, 1024)}
    check_prepared(build(nodes, feed, ["y"], constants), feed, ops=["Expand", "Add"])


def test_weights_kept_small_become_float() -> None:
    nodes = [
        helper.make_node("Cast", ["h"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["v"]),
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("MatMul", ["m", "v"], ["y"]),
    ]
    constants = {
        "h": random(1024, 1024, dtype=np.float16),
        "q": (random(1024, 1024) * 50).astype(np.int8),
        "scale": np.array(0.5, np.float32),
    }
    feed = {"x": random(2, 1024)}
    check_prepared(build(nodes, feed, ["y"], constants), feed, ops=["MatMul", "MatMul"])


def test_random_ops_and_quantization_are_not_folded() -> None:
    nodes = [
        helper.make_node("RandomUniform", [], ["r"], shape=[2]),
        helper.make_node("Mul", ["r", "zero"], ["z"]),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["w"]),
        helper.make_node("QuantizeLinear", ["x", "scale", "zp"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zp"], ["xd"]),
        helper.make_node("MatMul", ["xd", "w"], ["a"]),
        helper.make_node("Add", ["a", "z"], ["y"]),
    ]
    constants = {
        "q": np.array([1, 2], np.int8),
        "scale": np.array(0.5, np.float32),
        "zero": np.zeros(1, np.float32),
        "zp": np.zeros((), np.int8),
    }
    feed = {"x": random(2)}
    prepared = check_prepared(build(nodes, feed, ["y"], constants), feed)
    assert [node.op_type for node in prepared.graph].count("DequantizeLinear") == 2
    assert "RandomUniform" in [node.op_type for node in prepared.graph]


def test_a_weight_quantized_in_the_graph_is_stored_in_integers() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "scale", "zp"], ["wq"]),
        helper.make_node("DequantizeLinear", ["wq", "scale", "zp"], ["wd"]),
        helper.make_node("QuantizeLinear", ["x", "scale", "zp"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zp"], ["xd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["y"]),
    ]
    constants = {"w": random(2, 3), "scale": np.array(0.1, np.float32), "zp": np.zeros((), np.int8)}
    feed = {"x": random(4, 2)}
    check_prepared(
        build(nodes, feed, ["y"], constants),
        feed,
        ops=["DequantizeLinear", "QuantizeLinear", "DequantizeLinear", "MatMul"],
    )


def test_a_weight_that_no_integer_arithmetic_waits_for_is_folded() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["w"]),
        helper.make_node("QuantizeLinear", ["x", "scale", "zp"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zp"], ["xd"]),
        helper.make_node("Mul", ["xd", "w"], ["y"]),
    ]
    constants = {"q": np.array([1, 2], np.int8), "scale": np.array(0.5, np.float32), "zp": np.zeros((), np.int8)}
    feed = {"x": random(2)}
    prepared = check_prepared(build(nodes, feed, ["y"], constants), feed)
    assert [node.op_type for node in prepared.graph] == ["QuantizeLinear", "DequantizeLinear", "Mul"]


def test_what_onnxruntime_cannot_compute_stays() -> None:
    # It has no LpPool of float64; what does not depend on it is folded all the same.
    nodes = [
        helper.make_node("Add", ["a", "a"], ["b"]),
        helper.make_node("LpPool", ["d"], ["e"], kernel_shape=[1]),
        helper.make_node("Size", ["e"], ["n"]),
        helper.make_node("Mul", ["x", "b"], ["m"]),
    ]
    feed = {"x": random(2)}
    model = build(nodes, feed, ["m"], {"a": random(2), "d": random(1, 1, 2).astype(np.float64)})
    loaded = onnx_graph.load(model)
    infer(loaded)
    Fold().apply(loaded, Context.of(loaded, ConvertOptions()))
    assert [node.op_type for node in loaded.graph] == ["Mul"]


def test_unused_nodes_and_weights_go() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Exp", ["w"], ["nobody"])]
    prepared = check_prepared(build(nodes, FEED, ["y"], {"w": random(2)}), FEED, ops=["Relu"])
    assert not prepared.graph.initializers


def test_a_constant_read_inside_a_body() -> None:
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [2, 3, 4])
    then = helper.make_graph([helper.make_node("Reshape", ["x", "s"], ["out"])], "then", [], [out])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["out"])], "else", [], [out])
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    feed = {**FEED, "c": np.array(True)}
    check_prepared(build(nodes, feed, ["y"]), feed, ops=["If"])


def test_many_nodes_together_give_no_more_than_a_budget() -> None:
    fill = [helper.make_node("ConstantOfShape", ["s"], [f"c{number}"]) for number in range(100)]
    use = [helper.make_node("Mul", ["x", f"c{number}"], [f"y{number}"]) for number in range(100)]
    outputs = [f"y{number}" for number in range(100)]
    model = onnx_graph.load(build([*fill, *use], {"x": random(1, 1)}, outputs, {"s": np.array([1, 1 << 18])}))
    infer(model)
    Fold().apply(model, Context.of(model, ConvertOptions()))
    held = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    assert 1 << 25 < held < (1 << 26) + 100  # 100 of a megabyte each were asked for


def test_what_may_become_of_any_size_waits_until_its_size_is_known() -> None:
    nodes = [
        helper.make_node("Mul", ["s", "s"], ["t"]),
        helper.make_node("Expand", ["one", "t"], ["e"]),
        helper.make_node("Add", ["x", "e"], ["y"]),
    ]
    constants = {"s": np.array([1 << 20]), "one": np.ones(1, np.float32)}
    model = onnx_graph.load(build(nodes, {"x": random(1)}, ["y"], constants))
    for node in model.graph:
        node.outputs[0].shape = None
    model.graph.outputs[0].shape = None
    Fold().apply(model, Context.of(model, ConvertOptions()))  # 4 TB, if it were run
    assert "Expand" in [node.op_type for node in model.graph]
