from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers.onnx_models import build, check_prepared, random


@pytest.mark.parametrize(
    ("form", "op"),
    [
        ({"value": numpy_helper.from_array(random(3, seed=1))}, "Add"),
        ({"value_float": 2.5}, "Add"),
        ({"value_floats": [1.0, 2.0, 3.0]}, "Add"),
        ({"value_ints": [3, 1]}, "Reshape"),
        ({"value_int": -1}, "Reshape"),
    ],
)
def test_every_form_becomes_an_initializer(form: dict[str, Any], op: str) -> None:
    nodes = [helper.make_node("Constant", [], ["c"], **form), helper.make_node(op, ["x", "c"], ["y"])]
    if "value_int" in form:
        nodes[1:] = [
            helper.make_node("Constant", [], ["axes"], value_ints=[0]),
            helper.make_node("Unsqueeze", ["c", "axes"], ["shape"]),
            helper.make_node("Reshape", ["x", "shape"], ["y"]),
        ]
    feed = {"x": random(3)}
    check_prepared(build(nodes, feed, ["y"]), feed, ops=[op])


def test_strings_and_sparse_constants() -> None:
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", TensorProto.FLOAT, [1], [3.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [1]),
        [3],
    )
    nodes = [
        helper.make_node("Constant", [], ["s"], sparse_value=sparse),
        helper.make_node("Constant", [], ["t"], value_strings=[b"a", b"b"]),
        helper.make_node("Add", ["x", "s"], ["y"]),
        helper.make_node("Identity", ["t"], ["z"]),
    ]
    feed = {"x": random(3)}
    model = build(nodes, feed, {"y": (TensorProto.FLOAT, [3]), "z": (TensorProto.STRING, [2])})
    prepared = check_prepared(model, feed)
    assert [node.op_type for node in prepared.graph] == ["Add", "Identity"]


def test_a_constant_output_keeps_its_node_and_others_get_an_initializer() -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(3, np.float32))),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    feed = {"x": random(3)}
    prepared = check_prepared(build(nodes, feed, ["c", "y"]), feed, ops=["Constant", "Add"])
    assert prepared.graph[1].inputs[1] is not prepared.graph.outputs[0]
    assert len(prepared.graph.initializers) == 1


def test_inside_a_body() -> None:
    def branch(value: float) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Constant", [], ["c"], value_float=value),
            helper.make_node("Add", ["x", "c"], ["out"]),
        ]
        return helper.make_graph(nodes, "branch", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, [3])])

    node = helper.make_node("If", ["cond"], ["y"], then_branch=branch(1.0), else_branch=branch(2.0))
    feed = {"x": random(3), "cond": np.array(False)}
    prepared = check_prepared(build([node], feed, ["y"]), feed, ops=["If"])
    body = prepared.graph[0].attributes["else_branch"].as_graph()
    assert [inner.op_type for inner in body] == ["Add"]
    assert list(body.initializers) == ["c"]
