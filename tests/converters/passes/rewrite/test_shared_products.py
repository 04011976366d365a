from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.helpers.onnx_models import build, check_prepared, random

STEPS, D, K = 5, 8, 6


def steps(op: str, *, axis: int = 0, bias: bool = False, other: bool = False) -> onnx.ModelProto:
    """Rows of x, each multiplied with w (the last one with other weights, if asked)."""
    shape = (STEPS, 1, D) if axis == 0 else (1, STEPS, D)
    constants = {f"t{t}": np.array(t) for t in range(STEPS)}
    turned = {"transB": 1} if op == "Gemm" else {}
    constants["w"] = random(K, D) if turned else random(D, K)
    constants["v"] = random(*constants["w"].shape, seed=1)
    constants["b"] = random(K, seed=2)
    nodes = []
    for t in range(STEPS):
        weights = "v" if other and t == STEPS - 1 else "w"
        nodes.append(helper.make_node("Gather", ["x", f"t{t}"], [f"x{t}"], axis=axis))
        inputs = [f"x{t}", weights, *(["b"] if bias else [])]
        nodes.append(helper.make_node(op, inputs, [f"y{t}"], **turned))
    return build(nodes, {"x": random(*shape)}, [f"y{t}" for t in range(STEPS)], constants)


@pytest.mark.parametrize(("op", "bias"), [("Gemm", True), ("Gemm", False), ("MatMul", False)])
@pytest.mark.parametrize("axis", [0, 1])
def test_one_product_for_all_steps(op: str, bias: bool, axis: int) -> None:
    feed = {"x": random(*((STEPS, 1, D) if axis == 0 else (1, STEPS, D)), seed=3)}
    prepared = check_prepared(steps(op, axis=axis, bias=bias), feed)
    ops = [node.op_type for node in prepared.graph]
    assert ops == ["MatMul", *(["Add"] if bias else []), *["Gather"] * STEPS]
    assert (
        sum(value.const_value.size for value in prepared.graph.initializers.values() if value.const_value) < D * K * 2
    )


def test_other_weights_stay_apart() -> None:
    prepared = check_prepared(steps("MatMul", other=True), {"x": random(STEPS, 1, D, seed=3)})
    assert [node.op_type for node in prepared.graph].count("MatMul") == 2


def test_one_row_is_left() -> None:
    nodes = [helper.make_node("Gather", ["x", "t"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])]
    made = build(nodes, {"x": random(STEPS, 1, D)}, ["y"], {"t": np.array(1), "w": random(D, K)})
    check_prepared(made, {"x": random(STEPS, 1, D)}, ops=["Gather", "MatMul"])
