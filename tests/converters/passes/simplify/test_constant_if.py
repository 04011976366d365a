from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers.onnx_models import build, check_prepared, random

FEED = {"x": random(3)}


def branch(
    nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], constants: dict[str, np.ndarray] | None = None
) -> onnx.GraphProto:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in outputs]
    tensors = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    return helper.make_graph(list(nodes), "branch", [], infos, tensors)


def choose(
    condition: bool, then: onnx.GraphProto, other: onnx.GraphProto, outputs: Sequence[str] = ("y",)
) -> onnx.ModelProto:
    node = helper.make_node("If", ["cond"], list(outputs), then_branch=then, else_branch=other)
    return build([node], FEED, list(outputs), {"cond": np.array(condition)})


RELU = branch([helper.make_node("Relu", ["x"], ["out"])], ["out"])
NEG = branch([helper.make_node("Neg", ["x"], ["out"])], ["out"])


@pytest.mark.parametrize(("condition", "op"), [(True, "Relu"), (False, "Neg")])
def test_the_branch_taken_replaces_it(condition: bool, op: str) -> None:
    check_prepared(choose(condition, RELU, NEG), FEED, ops=[op])


def test_a_condition_computed_from_a_shape() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Equal", ["shape", "three"], ["cond"]),
        helper.make_node("If", ["cond"], ["y"], then_branch=RELU, else_branch=NEG),
    ]
    check_prepared(build(nodes, FEED, ["y"], {"three": np.array([3])}), FEED, ops=["Relu"])


def test_names_that_exist_outside_are_changed() -> None:
    inner = branch(
        [helper.make_node("Add", ["x", "w"], ["a"], name="n"), helper.make_node("Relu", ["a"], ["out"], name="m")],
        ["out"],
        {"w": random(3, seed=5)},
    )
    nodes = [
        helper.make_node("If", ["cond"], ["one"], then_branch=inner, else_branch=NEG, name="n"),
        helper.make_node("If", ["cond"], ["two"], then_branch=inner, else_branch=NEG, name="m"),
        helper.make_node("Add", ["one", "two"], ["y"], name="a"),
    ]
    model = build(nodes, FEED, ["y"], {"cond": np.array(True)})
    check_prepared(model, FEED, ops=["Add", "Relu", "Add", "Relu", "Add"])


def test_nested() -> None:
    inside = helper.make_node("If", ["cond"], ["out"], then_branch=NEG, else_branch=RELU)
    check_prepared(choose(True, branch([inside], ["out"]), RELU), FEED, ops=["Neg"])


@pytest.mark.parametrize(
    "taken",
    [
        branch([helper.make_node("Identity", ["x"], ["out"])], ["out"]),
        branch([helper.make_node("Constant", [], ["out"], value_floats=[1.0, 2.0, 3.0])], ["out"]),
    ],
    ids=["outer value", "constant"],
)
def test_branches_that_compute_nothing(taken: onnx.GraphProto) -> None:
    check_prepared(choose(True, taken, NEG), FEED, gone=["If"])


def test_two_outputs() -> None:
    other = branch([helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Abs", ["x"], ["b"])], ["a", "b"])
    node = helper.make_node("If", ["cond"], ["y", "z"], then_branch=other, else_branch=other)
    model = build([node], FEED, ["y", "z"], {"cond": np.array(True)})
    check_prepared(model, FEED, ops=["Neg", "Abs"])


def test_an_unknown_condition_stays() -> None:
    node = helper.make_node("If", ["cond"], ["y"], then_branch=RELU, else_branch=NEG)
    for condition in (True, False):
        feed = {**FEED, "cond": np.array(condition)}
        check_prepared(build([node], feed, ["y"]), feed, ops=["If"])


def test_the_other_branch_lets_go_of_outer_values() -> None:
    other = branch([helper.make_node("Exp", ["unused"], ["out"])], ["out"])
    nodes = [
        helper.make_node("Neg", ["x"], ["unused"]),
        helper.make_node("If", ["cond"], ["y"], then_branch=RELU, else_branch=other),
    ]
    check_prepared(build(nodes, FEED, ["y"], {"cond": np.array(True)}), FEED, ops=["Relu"])
