from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.helpers.onnx_models import build, check_prepared, random


def identity(source: str, result: str) -> onnx.NodeProto:
    return helper.make_node("Identity", [source], [result])


FEED = {"x": random(3)}


def test_inner_ones_go() -> None:
    nodes = [
        identity("x", "a"),
        helper.make_node("Relu", ["a"], ["b"]),
        identity("b", "c"),
        helper.make_node("Neg", ["c"], ["y"]),
    ]
    check_prepared(build(nodes, FEED, ["y"]), FEED, ops=["Relu", "Neg"])


def test_an_output_keeps_its_name_and_documentation() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), identity("a", "y"), helper.make_node("Neg", ["a"], ["z"])]
    model = build(nodes, FEED, ["y", "z"])
    model.graph.output[0].doc_string = "what it is"
    prepared = check_prepared(model, FEED, ops=["Relu", "Neg"])
    assert prepared.graph.outputs[0].doc_string == "what it is"


def test_passed_through_input_stays() -> None:
    check_prepared(build([identity("x", "y")], FEED, ["y"]), FEED, ops=["Identity"])


def test_constant_output_stays() -> None:
    model = build([identity("c", "y"), helper.make_node("Add", ["x", "c"], ["z"])], FEED, ["y", "z"], {"c": random(3)})
    check_prepared(model, FEED, ops=["Identity", "Add"])


def test_two_outputs_of_one_value_stay_two() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), identity("a", "y"), identity("a", "z")]
    check_prepared(build(nodes, FEED, ["y", "z"]), FEED, ops=["Relu", "Identity"])


def test_output_of_an_output_stays() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), identity("y", "z")]
    check_prepared(build(nodes, FEED, ["y", "z"]), FEED, ops=["Relu", "Identity"])


def test_chains_collapse() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), identity("a", "b"), identity("b", "c"), identity("c", "y")]
    check_prepared(build(nodes, FEED, ["y"]), FEED, ops=["Relu"])


def test_a_body_that_gives_an_outer_value_keeps_its_identity() -> None:
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [3])
    then = helper.make_graph([identity("x", "out")], "then", [], [out])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["n"]), identity("n", "out")], "else", [], [out])
    node = helper.make_node("If", ["cond"], ["y"], then_branch=then, else_branch=other)
    for condition in (True, False):
        feed = {**FEED, "cond": np.array(condition)}
        prepared = check_prepared(build([node], feed, ["y"]), feed, ops=["If"])
        bodies = prepared.graph[0].attributes
        assert [inner.op_type for inner in bodies["then_branch"].as_graph()] == ["Identity"]
        assert [inner.op_type for inner in bodies["else_branch"].as_graph()] == ["Neg"]
