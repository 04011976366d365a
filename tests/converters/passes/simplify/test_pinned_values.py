from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ort_rknn_converters.errors import ModelError, UnknownOption
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.prepare import prepare
from tests.helpers.onnx_models import build, check_prepared, random

IMAGE = random(1, 3, 8, 8)


def scaled() -> onnx.ModelProto:
    """An image made smaller by a factor that is fed."""
    nodes = [
        helper.make_node("Concat", ["one", "ratio", "ratio"], ["scales"], axis=0),
        helper.make_node("Resize", ["x", "", "scales"], ["small"], mode="linear"),
        helper.make_node("Relu", ["small"], ["y"]),
    ]
    inputs = {"x": IMAGE, "ratio": (TensorProto.FLOAT, [1])}
    return build(nodes, inputs, ["y"], {"one": np.ones(2, np.float32)}, opset=17)


def switched() -> onnx.ModelProto:
    branches = {
        name: helper.make_graph([helper.make_node(op, ["x"], [name])], name, [], [onnx.ValueInfoProto(name=name)])
        for name, op in (("a", "Relu"), ("b", "Neg"))
    }
    for name, branch in branches.items():
        branch.output[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, IMAGE.shape))
    node = helper.make_node("If", ["cached"], ["y"], then_branch=branches["a"], else_branch=branches["b"])
    return build([node], {"x": IMAGE, "cached": (TensorProto.BOOL, [1])}, ["y"], opset=17)


def test_shapes_that_hang_on_a_value() -> None:
    prepared = check_prepared(scaled(), {"x": IMAGE, "ratio": np.float32([0.5])}, values={"ratio": 0.5})
    made = {node.op_type: node.outputs[0] for node in prepared.graph}
    assert onnx_graph.static_shape(made["Relu"]) == (1, 3, 4, 4)


@pytest.mark.parametrize(("value", "op"), [(True, "Relu"), ("false", "Neg"), (np.array([False]), "Neg")])
def test_branches_that_hang_on_a_value(value: Any, op: str) -> None:
    cached = np.array([op == "Relu"])
    check_prepared(switched(), {"x": IMAGE, "cached": cached}, ops=[op], values={"cached": value})


@pytest.mark.parametrize(
    ("values", "message"),
    [({"rat": 0.5}, "no input is called rat"), ({"ratio": [0.5, 0.25]}, r"has shape \[1\], and the value given \[2\]")],
)
def test_values_that_fit_nothing(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        prepare(onnx_graph.load(scaled()), ConvertOptions(values=values))


@pytest.mark.parametrize("value", ["half", [[1], [1, 2]], {"a": 1}, np.zeros(5000)])
def test_what_is_no_value(value: Any) -> None:
    with pytest.raises(UnknownOption, match=r"values\['ratio'\] is a number"):
        ConvertOptions(values={"ratio": value})


def test_equal_values_give_equal_keys() -> None:
    keys = {ConvertOptions(values={"ratio": value}).key() for value in (0.5, "0.5", np.float64(0.5))}
    assert len(keys) == 1
    assert keys != {ConvertOptions(values={"ratio": 0.25}).key()}
