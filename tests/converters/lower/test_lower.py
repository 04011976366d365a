from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.lower.lower import Lowered, lower
from ort_rknn_converters.targets import find_target
from tests.helpers.assert_same import assert_same_values, run_cpu
from tests.helpers.onnx_models import build, one_op, random
from tests.helpers.versions import skip_newer_opsets

TARGET = find_target("rk3588")


def check(model: onnx.ModelProto, feed: dict[str, np.ndarray], *, rtol: float = 1e-5) -> Lowered:
    """Lower and assert what every lowered model must be, and that it gives the same numbers."""
    before = model.SerializeToString()
    lowered = lower(model, TARGET)
    assert model.SerializeToString() == before
    proto = lowered.model.whole()
    onnx.checker.check_model(proto)
    assert proto.ir_version <= 10
    assert all(opset.version <= 19 for opset in proto.opset_import if not opset.domain)
    assert [info.name for info in proto.graph.input] == [item.name for item in lowered.inputs]
    assert [info.name for info in proto.graph.output] == [item.name for item in lowered.outputs]
    assert not any(node.op_type in ("Constant", "CastLike") for node in proto.graph.node)

    skip_newer_opsets(model)  # the numbers cannot be compared
    expected = run_cpu(model, feed)
    given = {
        item.name: feed[lowered.names.get(item.name, item.name)].astype(item.dtype).reshape(item.shape)
        for item in lowered.inputs
    }
    actual = run_cpu(proto, given)
    for item in lowered.outputs:
        wanted = expected[lowered.names.get(item.name, item.name)]
        got = actual[item.name]
        assert got.dtype == item.dtype
        assert_same_values(wanted, got.reshape(wanted.shape).astype(wanted.dtype), what=item.name, rtol=rtol)
    return lowered


def ops(lowered: Lowered) -> list[str]:
    return [node.op_type for node in lowered.model.whole().graph.node]


def refuse(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        lower(model, TARGET)


# Versions


@pytest.mark.parametrize("opset", [7, 13, 19, 20, 21, 22, 23, 24, 25, 26])
def test_opset_comes_down(opset: int) -> None:
    feed = {"x": random(1, 3, 8, 8)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("AveragePool", ["r"], ["p"], kernel_shape=[2, 2]),
        helper.make_node("Transpose", ["p"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Flatten", ["t"], ["y"]),
    ]
    check(build(nodes, feed, {"y": (TensorProto.FLOAT, [1, 196])}, {"w": random(4, 3, 3, 3)}, opset=opset), feed)


@pytest.mark.parametrize(("mode", "old"), [("linear", b"bilinear"), ("cubic", b"bicubic"), ("nearest", b"nearest")])
def test_grid_sample_modes_get_their_old_names(mode: str, old: bytes) -> None:
    feed = {"x": random(1, 2, 4, 4), "grid": random(1, 3, 3, 2, seed=1) / 3}
    lowered = check(one_op("GridSample", feed, opset=20, mode=mode), feed)
    assert {attr.name: attr.s for attr in lowered.model.whole().graph.node[0].attribute}["mode"] == old


def test_attributes_that_say_nothing_new_are_dropped() -> None:
    feed = {"x": random(4)}
    lowered = check(one_op("Cast", feed, opset=25, to=TensorProto.INT32, round_mode="up"), feed)
    assert "round_mode" not in [attr.name for attr in lowered.model.whole().graph.node[0].attribute]


def test_an_op_without_an_older_form_is_named() -> None:
    refuse(one_op("Gelu", {"x": random(3)}, opset=20), "Gelu of opset 20 cannot be expressed in opset 19")


def test_newer_ir_versions_come_down() -> None:
    model = one_op("Relu", {"x": random(3)})
    model.ir_version = 13
    assert lower(model, TARGET).model.whole().ir_version == 10


# Types


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_become_float32(dtype: Any) -> None:
    feed = {"x": random(2, 3, dtype=dtype), "n": np.array([1, 2, 3], np.int32)}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Cast", ["n"], ["f"], to=kind),
        helper.make_node("Add", ["x", "f"], ["a"]),
        helper.make_node("Mul", ["a", "w"], ["b"]),
        helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", kind, [1], [0.5])),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    lowered = check(build(nodes, feed, {"y": feed["x"]}, {"w": random(3, dtype=dtype)}), feed, rtol=2e-3)
    assert [item.dtype for item in lowered.inputs] == [np.float32, np.int32]
    assert {tensor.data_type for tensor in lowered.model.whole().graph.initializer} == {TensorProto.FLOAT}


def test_large_doubles_stay_finite() -> None:
    feed = {"x": np.zeros(2, np.float64)}
    model = one_op("Add", feed, {"w": np.array([-1e300, np.inf])})
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.DOUBLE, [2]))
    weight = onnx.numpy_helper.to_array(lower(model, TARGET).model.whole().graph.initializer[0])
    assert weight[0] == np.finfo(np.float32).min
    assert np.isinf(weight[1])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.uint32])
def test_small_integers_are_cast_by_the_caller(dtype: Any) -> None:
    feed = {"x": np.array([1, 2, 100], dtype)}
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))),
    ]
    lowered = check(build(nodes, feed, {"y": feed["x"]}, {"w": np.array(1.1, np.float32)}), feed)
    assert ops(lowered) == ["Mul"]
    assert lowered.inputs[0].dtype == lowered.outputs[0].dtype == np.float32


def test_types_without_such_a_cast_are_refused() -> None:
    refuse(one_op("Add", {"a": np.zeros(2, np.uint8), "b": np.zeros(2, np.uint8)}), r"input a: .*tensor\(uint8\)")
    relu = helper.make_node("Relu", ["x"], ["r"])
    cast = helper.make_node("Cast", ["r"], ["y"], to=TensorProto.STRING)
    refuse(build([relu, cast], {"x": random(2)}, ["r", "y"]), r"output y: .*nothing to compile")
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Cast", ["s"], ["y"], to=TensorProto.STRING)]
    refuse(build(nodes, {"x": random(2)}, ["y"]), r"output y: .*tensor\(string\)")
    refuse(one_op("Cast", {"x": np.zeros(2, np.int64)}, to=TensorProto.UINT8), r"output y: .*tensor\(uint8\)")


# Ranks, names, odd nodes


def test_rank_0_inputs_come_as_1() -> None:
    feed = {"x": random(3), "s": np.array(2.5, np.float32)}
    lowered = check(one_op("Mul", feed), feed)
    assert lowered.inputs[1].shape == (1,)
    assert ops(lowered) == ["Reshape", "Mul"]


def test_rank_0_outputs_are_reported_as_1() -> None:
    feed = {"x": random(3)}
    lowered = check(one_op("ReduceSum", feed, keepdims=0), feed)
    assert lowered.outputs[0].shape == (1,)


def test_long_names_are_shortened_and_mapped_back() -> None:
    long = "layer/" * 60
    feed = {long + "in": random(3), long + "in2": random(3, seed=1)}
    nodes = [
        helper.make_node("Add", list(feed), [long + "a"], name=long),
        helper.make_node("Neg", [long + "a"], [long + "y"]),
    ]
    lowered = check(build(nodes, feed, [long + "y"]), feed)
    assert set(lowered.names.values()) == {*feed, long + "y"}
    every = [name for node in lowered.model.whole().graph.node for name in (node.name, *node.input, *node.output)]
    assert max(map(len, every)) <= 120


def test_constant_of_shape_says_its_value() -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["z"]), helper.make_node("Add", ["x", "z"], ["y"])]
    feed = {"x": random(3)}
    lowered = check(build(nodes, feed, ["y"], {"s": np.array([3])}), feed)
    assert lowered.model.whole().graph.node[0].attribute[0].name == "value"


@pytest.mark.parametrize(("op", "gates", "outputs"), [("LSTM", 4, 3), ("GRU", 3, 2)])
def test_recurrent_outputs_are_all_named(op: str, gates: int, outputs: int) -> None:
    feed = {"x": random(5, 2, 3)}
    constants = {"w": random(1, gates * 4, 3, seed=1), "r": random(1, gates * 4, 4, seed=2)}
    node = helper.make_node(op, ["x", "w", "r"], ["", "y"], hidden_size=4)
    lowered = check(build([node], feed, ["y"], constants), feed)
    made = lowered.model.whole().graph.node[0]
    assert len(made.output) == outputs
    assert all(made.output)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("states", [["y", ""], ["", "y"], ["y", "z"]])
def test_gru_gives_its_last_state_by_way_of_all(direction: str, states: list[str]) -> None:
    count = 2 if direction == "bidirectional" else 1
    feed = {"x": random(5, 2, 3)}
    constants = {"w": random(count, 12, 3, seed=1), "r": random(count, 12, 4, seed=2), "b": random(count, 24, seed=3)}
    node = helper.make_node("GRU", ["x", *constants], states, hidden_size=4, direction=direction, linear_before_reset=1)
    lowered = check(build([node], feed, [name for name in states if name], constants), feed)
    assert ("Slice" in ops(lowered)) == (states[0] == "")


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_split_says_its_parts(count: int) -> None:
    feed = {"x": random(2, 7)}
    names = [f"y{index}" for index in range(count)]
    node = helper.make_node("Split", ["x"], names, axis=1, num_outputs=count)
    lowered = check(build([node], feed, names), feed)
    assert len(lowered.model.whole().graph.node[0].input) == 2


def test_pad_says_every_axis() -> None:
    feed = {"x": random(2, 3, 4)}
    constants = {"pads": np.array([1, 0, 2, 1]), "axes": np.array([-1, 1])}
    lowered = check(one_op("Pad", feed, constants, order=["x", "pads", "", "axes"]), feed)
    assert len([name for name in lowered.model.whole().graph.node[0].input if name]) == 2


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("opset", [9, 17])
def test_zeros_before_a_max_pool_are_only_nearly_so(opset: int, zero: bool) -> None:
    feed = {"x": -np.abs(random(1, 3, 4, 4))}
    pads, value = [0, 0, 0, 0, 0, 0, 1, 1], 0.0 if zero else -9.0
    said = {"pads": pads, "value": value} if opset == 9 else {}
    names = ["x"] if opset == 9 else ["x", "pads", "value"]
    nodes = [
        helper.make_node("Pad", names, ["p"], **said),
        helper.make_node("MaxPool", ["p"], ["y"], kernel_shape=[2, 2]),
    ]
    constants = {} if opset == 9 else {"pads": np.array(pads), "value": np.float32(value)}
    lowered = check(build(nodes, feed, ["y"], constants, opset=opset), feed)
    values = [
        onnx.numpy_helper.to_array(tensor) for tensor in lowered.model.whole().graph.initializer if not tensor.dims
    ]
    values += [np.array(one.f) for one in lowered.model.whole().graph.node[0].attribute if one.name == "value"]
    assert 0 < values[-1] < 3e-8 if zero else values[-1] == -9


def test_gather_elements_counts_its_axis_from_the_front() -> None:
    feed = {"x": random(2, 3, 4)}
    lowered = check(one_op("GatherElements", feed, {"at": np.array([[[3, 0]]])}, axis=-1), feed)
    assert lowered.model.whole().graph.node[0].attribute[0].i == 2


@pytest.mark.parametrize(("least", "repeated"), [((), True), ((1,), True), ((3,), False)])
def test_where_of_one_dimension_repeats_its_number(least: tuple[int, ...], repeated: bool) -> None:
    feed = {"c": np.array([True, False, True]), "a": random(*least), "b": random(3)}
    lowered = check(build([helper.make_node("Where", ["c", "a", "b"], ["y"])], feed, ["y"]), feed)
    assert ops(lowered)[-2:] == ["Expand", "Where"] if repeated else ops(lowered) == ["Where"]


def test_constants_listed_as_inputs_are_no_inputs() -> None:
    model = build(
        [helper.make_node("Add", ["x", "w"], ["y"])], {"x": random(3), "w": random(3)}, ["y"], {"w": random(3)}
    )
    assert [item.name for item in lower(model, TARGET).inputs] == ["x"]


# What the toolkit would drop or crash on


def test_what_it_would_drop_is_refused() -> None:
    x = random(3)
    relu = helper.make_node("Relu", ["x"], ["y"])
    refuse(build([relu], {"x": x, "unused": x}, ["y"]), "input unused is not used")
    refuse(
        build([relu, helper.make_node("Identity", ["x"], ["z"])], {"x": x}, ["y", "z"]),
        "z .*nothing|z is constant or an input",
    )
    refuse(build([relu, helper.make_node("Neg", ["w"], ["z"])], {"x": x}, ["y", "z"], {"w": x}), "output z is constant")
    refuse(build([helper.make_node("Neg", ["w"], ["z"])], {}, ["z"], {"w": x}), "no inputs")


def test_shapes_must_be_fixed_and_not_empty() -> None:
    refuse(
        build([helper.make_node("Relu", ["x"], ["y"])], {"x": (TensorProto.FLOAT, ["N"])}, ["y"]),
        "input x has no fixed shape",
    )
    refuse(one_op("Relu", {"x": np.zeros((0, 3), np.float32)}), "input x is empty")


def test_control_flow_and_sequences_are_refused() -> None:
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [3])
    body = helper.make_graph([helper.make_node("Neg", ["x"], ["out"])], "body", [], [out])
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    feed = {"x": random(3), "c": np.array(True)}
    refuse(build([node], feed, {"y": feed["x"]}), "If .*no control flow")
    nodes = [
        helper.make_node("SequenceConstruct", ["x"], ["s"]),
        helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0),
    ]
    refuse(build(nodes, {"x": feed["x"]}, {"y": feed["x"]}), "SequenceConstruct")
