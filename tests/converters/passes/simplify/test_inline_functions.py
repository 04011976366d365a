from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.pipeline.prepare import prepare
from tests.helpers.assert_same import run_cpu
from tests.helpers.onnx_models import OPSET, build, check_prepared, random

FEED = {"x": random(3)}


def function(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[str] = ("a",),
    outputs: Sequence[str] = ("r",),
    attributes: Sequence[str] = (),
    opset: int = OPSET,
    defaults: Sequence[onnx.AttributeProto] = (),
) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("mine", 1)]
    return helper.make_function(
        "mine", name, list(inputs), list(outputs), list(nodes), imports, list(attributes), list(defaults)
    )


def call(name: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: object) -> onnx.NodeProto:
    return helper.make_node(name, list(inputs), list(outputs), domain="mine", **attributes)


def model(
    nodes: Sequence[onnx.NodeProto], functions: Sequence[onnx.FunctionProto], outputs: Sequence[str] = ("y",)
) -> onnx.ModelProto:
    return build(nodes, FEED, list(outputs), domains=["mine"], functions=functions)


TWICE = function("Twice", [helper.make_node("Add", ["a", "a"], ["r"])])


def test_calls_of_calls() -> None:
    four = function("Four", [call("Twice", ["a"], ["t"]), call("Twice", ["t"], ["r"])])
    nodes = [call("Four", ["x"], ["h"]), call("Four", ["h"], ["y"])]
    prepared = check_prepared(model(nodes, [TWICE, four]), FEED, ops=["Add"] * 4)
    assert not prepared.functions


def test_attributes_and_their_defaults() -> None:
    leaky = helper.make_node("LeakyRelu", ["a"], ["r"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    given = function("Given", [leaky], attributes=["slope"])
    defaulted = function("Defaulted", [leaky], defaults=[helper.make_attribute("slope", 0.25)])
    nodes = [call("Given", ["x"], ["h"], slope=0.5), call("Defaulted", ["h"], ["y"])]
    prepared = check_prepared(model(nodes, [given, defaulted]), FEED, ops=["LeakyRelu", "LeakyRelu"])
    assert [node.attributes["alpha"].as_float() for node in prepared.graph] == [0.5, 0.25]


def test_a_function_that_gives_its_input_or_one_value_twice() -> None:
    # onnxruntime refuses such functions; inlined they are fine.
    odd = function("Odd", [helper.make_node("Neg", ["a"], ["n"])], outputs=["a", "n", "n"])
    prepared = prepare(onnx_graph.load(model([call("Odd", ["x"], ["y", "z", "w"])], [odd], ["y", "z", "w"]))).model
    answers = run_cpu(onnx_graph.to_proto(prepared), FEED)
    np.testing.assert_array_equal([answers[name] for name in "yzw"], [FEED["x"], -FEED["x"], -FEED["x"]])


def test_inner_names_do_not_hide_outer_ones() -> None:
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [3])
    then = helper.make_graph([helper.make_node("Add", ["x", "t"], ["out"])], "then", [], [out])
    other = helper.make_graph([helper.make_node("Neg", ["t"], ["out"])], "else", [], [out])
    inner = function("Inner", [helper.make_node("Exp", ["a"], ["t"]), helper.make_node("Neg", ["t"], ["r"])])
    nodes = [
        helper.make_node("Abs", ["x"], ["t"]),
        call("Inner", ["t"], ["h"]),
        helper.make_node("If", ["c"], ["i"], then_branch=then, else_branch=other),
        helper.make_node("Add", ["h", "i"], ["y"]),
    ]
    for condition in (True, False):
        feed = {**FEED, "c": np.array(condition)}
        check_prepared(build(nodes, feed, ["y"], domains=["mine"], functions=[inner]), feed)


def test_inside_a_body() -> None:
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [3])
    then = helper.make_graph([call("Twice", ["x"], ["out"])], "then", [], [out])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["out"])], "else", [], [out])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    feed = {**FEED, "c": np.array(True)}
    prepared = check_prepared(build(nodes, feed, ["y"], domains=["mine"], functions=[TWICE]), feed)
    assert [node.op_type for node in prepared.graph[0].attributes["then_branch"].as_graph()] == ["Add"]


def test_another_opset_stays_a_call() -> None:
    old = function("Old", [helper.make_node("Relu", ["a"], ["r"])], opset=OPSET - 1)
    prepared = prepare(onnx_graph.load(model([call("Old", ["x"], ["y"])], [old]))).model
    assert [node.op_type for node in prepared.graph] == ["Old"]
    assert prepared.functions


def test_unused_functions_go() -> None:
    prepared = check_prepared(model([helper.make_node("Relu", ["x"], ["y"])], [TWICE]), FEED, ops=["Relu"])
    assert not prepared.functions


def test_functions_in_a_circle_are_refused() -> None:
    one = function("One", [call("Two", ["a"], ["r"])])
    two = function("Two", [call("One", ["a"], ["r"])])
    with pytest.raises(ModelError, match="cannot be inlined"):
        prepare(onnx_graph.load(model([call("One", ["x"], ["y"])], [one, two])))
