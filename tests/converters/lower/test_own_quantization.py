"""Other forms of parts that bring their own quantization."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from ort_rknn_converters.lower.own_quantization import around_products, in_floats, is_quantized, without_fatal_pairs
from tests.helpers.onnx_models import build, random


def pairs(*steps: tuple[str, list[str], str]) -> onnx.ModelProto:
    """Each step's result is rounded; ``~name`` is the rounded form of a value."""
    nodes: list[onnx.NodeProto] = []

    def rounded(name: str) -> None:
        nodes.append(helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", "s", "z"], [f"~{name}"], name=f"~{name}"))

    rounded("x")
    for op, inputs, name in steps:
        nodes.append(helper.make_node(op, inputs, [name]))
        rounded(name)
    constants = {"s": np.array(0.02, np.float32), "z": np.array(128, np.uint8), "w": random(8, 8), "c": random(8)}
    return build(nodes, {"x": random(2, 8)}, [f"~{steps[-1][2]}"], constants)


def kept(form: onnx.ModelProto | None) -> list[str]:
    assert form is not None
    return [node.input[0] for node in form.graph.node if node.op_type == "QuantizeLinear"]


def test_around_products() -> None:
    part = pairs(
        ("MatMul", ["~x", "w"], "product"),
        ("Add", ["~product", "c"], "bias"),
        ("Tanh", ["~bias"], "bent"),
        ("Mul", ["~bent", "~bias"], "gated"),
        ("MatMul", ["~gated", "w"], "last"),
    )
    assert kept(around_products(part)) == ["x", "product", "bias", "gated", "last"]
    assert is_quantized(part)
    assert kept(part) == ["x", "product", "bias", "bent", "gated", "last"]  # left as it was


def test_in_floats() -> None:
    part = pairs(("MatMul", ["~x", "w"], "product"), ("Relu", ["~product"], "y"))
    form = in_floats(part)
    assert kept(form) == []
    assert form is not None
    assert [(node.op_type, *node.output) for node in form.graph.node] == [("MatMul", "product"), ("Relu", "~y")]


def test_nothing_to_leave_out() -> None:
    assert around_products(pairs(("MatMul", ["~x", "w"], "y"))) is None
    assert without_fatal_pairs(pairs(("MatMul", ["~x", "w"], "y"))) is None


def test_the_steps_of_a_gelu() -> None:
    part = pairs(
        ("Div", ["~x", "c"], "divided"),
        ("Erf", ["~divided"], "erf"),
        ("Add", ["~erf", "c"], "more"),
        ("Mul", ["~x", "~more"], "twice"),
        ("Mul", ["~twice", "c"], "once"),
        ("Relu", ["~once"], "y"),
    )
    assert kept(without_fatal_pairs(part)) == ["x", "divided", "once", "y"]


def test_after_the_softmax_of_attention() -> None:
    part = pairs(("MatMul", ["~x", "w"], "a"), ("Softmax", ["~a"], "b"), ("MatMul", ["~b", "w"], "y"))
    assert kept(without_fatal_pairs(part)) == ["x", "a", "y"]
