from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from ort_rknn_converters.passes.rewrite.mergeable_dims import neighbours
from tests.helpers.onnx_models import build, check_prepared, one_op, random


def ranks(model: ir.Model) -> dict[str, int]:
    """Largest rank each op works on."""
    found: dict[str, int] = {}
    for node in model.graph:
        for value in (*node.inputs, *node.outputs):
            if value is not None and value.shape is not None and node.op_type not in ("Reshape", "Transpose"):
                found[node.op_type] = max(found.get(node.op_type, 0), len(value.shape))
    return found


@pytest.mark.parametrize(
    ("left", "right", "rank"),
    [
        ((2, 3, 4, 5, 6), (2, 3, 4, 6, 7), 3),
        ((2, 3, 4, 5, 6), (6, 7), 3),
        ((2, 3, 4, 5, 6), (4, 6, 7), 4),
        ((2, 3, 1, 5, 6), (2, 3, 4, 6, 7), 4),
        ((1, 1, 4, 5, 6), (2, 3, 4, 6, 7), 4),
        ((2, 3, 2, 2, 5, 6), (2, 1, 1, 2, 6, 7), 5),  # nothing but two of them are alike
    ],
)
def test_matmul(left: tuple[int, ...], right: tuple[int, ...], rank: int) -> None:
    feed = {"a": random(*left), "b": random(*right, seed=1)}
    prepared = check_prepared(one_op("MatMul", feed), feed)
    assert ranks(prepared)["MatMul"] == (rank if rank < 5 else 6)


@pytest.mark.parametrize(
    ("op", "shapes", "rank"),
    [
        ("Mul", [(1, 4, 4, 9, 3, 3), (1, 4, 1, 9, 3, 3)], 3),
        ("Add", [(2, 3, 2, 2, 2, 4, 5), (5,)], 3),
        ("Sub", [(2, 3, 2, 2, 2, 4, 5), ()], 3),
        ("Max", [(1, 1, 1, 2, 2, 4, 5), (2, 3, 2, 2, 2, 4, 5)], 4),
        ("Sigmoid", [(2, 3, 2, 2, 2, 4)], 3),
        ("Transpose", [(2, 3, 2, 2, 2, 4, 5)], 3),
        ("Add", [(2, 1, 2, 1, 2, 1), (1, 2, 1, 2, 1, 2)], 6),
    ],
)
def test_elementwise(op: str, shapes: list[tuple[int, ...]], rank: int) -> None:
    feed = {f"x{number}": random(*shape, seed=number) for number, shape in enumerate(shapes)}
    more: dict[str, Any] = {"perm": [4, 5, 6, 0, 1, 2, 3]} if op == "Transpose" else {}
    prepared = check_prepared(one_op(op, feed, **more), feed)
    node = next(node for node in prepared.graph if node.op_type == op)
    assert len(node.outputs[0].shape or ()) == (2 if more else rank)


def test_where() -> None:
    feed = {"c": random(2, 1, 2, 2, 3, 3) > 0, "a": random(2, 4, 2, 2, 3, 3), "b": random(1, seed=1)}
    assert ranks(check_prepared(one_op("Where", feed), feed))["Where"] == 3


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[3], [1, 2], [-1], [0, 3, 5]])
@pytest.mark.parametrize("op", ["ReduceMax", "ReduceSum"])
def test_reductions(op: str, axes: list[int], keepdims: int) -> None:
    feed = {"x": random(2, 2, 3, 4, 2, 3)}
    prepared = check_prepared(one_op(op, feed, {"axes": np.array(axes)}, keepdims=keepdims, opset=18), feed)
    assert ranks(prepared)[op] <= (5 if axes == [0, 3, 5] else 4)


def test_a_reduction_of_old() -> None:
    feed = {"x": random(2, 2, 3, 4, 2, 3)}
    assert ranks(check_prepared(one_op("ReduceSum", feed, opset=11, axes=[3]), feed))["ReduceSum"] <= 4


def test_a_sum_over_everything_stays() -> None:
    feed = {"x": random(1, 2, 1, 2, 1, 2)}
    assert ranks(check_prepared(one_op("ReduceSum", feed), feed))["ReduceSum"] == 6


@pytest.mark.parametrize("axis", [0, 3, -1])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax(op: str, axis: int) -> None:
    feed = {"x": random(2, 3, 2, 4, 1, 2, 2)}
    assert ranks(check_prepared(one_op(op, feed, axis=axis), feed))[op] <= 4


def test_softmax_of_old_stays() -> None:
    feed = {"x": random(2, 3, 2, 4, 1, 2, 2)}
    assert ranks(check_prepared(one_op("Softmax", feed, opset=11, axis=6), feed))["Softmax"] == 7


@pytest.mark.parametrize(("axis", "rank"), [(-1, 3), (4, 3), (3, 2)])
def test_layer_normalization(axis: int, rank: int) -> None:
    feed = {"x": random(2, 3, 2, 4, 5)}
    constants = {name: random(*((4, 5) if axis == 3 else (5,)), seed=1) for name in ("scale", "bias")}
    model = one_op("LayerNormalization", feed, constants, axis=axis)
    assert ranks(check_prepared(model, feed))["LayerNormalization"] == rank


@pytest.mark.parametrize("repeats", [[1, 3, 1, 1, 1], [2, 1, 1, 1, 3], [1, 2, 2, 1, 1]])
def test_tile(repeats: list[int]) -> None:
    feed = {"x": random(1, 2, 3, 2, 2)}
    assert ranks(check_prepared(one_op("Tile", feed, {"repeats": np.array(repeats)}), feed))["Tile"] <= 4


def test_expand() -> None:
    feed = {"x": random(1, 2, 3, 1, 2, 2)}
    shape = {"shape": np.array([4, 2, 3, 5, 2, 2])}
    assert ranks(check_prepared(one_op("Expand", feed, shape), feed))["Expand"] == 4


def test_attention_in_windows_stays_in_one_piece() -> None:
    """Between the two products nothing is reshaped: the compiler fuses what it sees as attention."""
    shape = (1, 2, 4, 8, 6)
    feed = {name: random(*shape, seed=number) for number, name in enumerate("qkv")}
    nodes = [
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 2, 4, 3]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Mul", ["scores", "scale"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "v"], ["y"]),
    ]
    model = build(nodes, feed, {"y": random(*shape)}, {"scale": np.float32(0.4)})
    prepared = check_prepared(model, feed)
    kinds = [node.op_type for node in prepared.graph]
    first = kinds.index("MatMul")
    assert [kind for kind in kinds[first:] if kind != "Reshape"] == ["MatMul", "Mul", "Softmax", "MatMul"]
    assert kinds.count("Reshape") == 4  # three operands and the result


def test_few_dimensions_stay_as_they_are() -> None:
    feed = {"a": random(2, 3, 4, 5, 6), "b": random(2, 3, 4, 5, 6, seed=1)}
    check_prepared(one_op("Add", feed), feed, ops=["Add"])


def test_what_the_user_keeps_on_the_cpu_stays() -> None:
    feed = {"a": random(2, 3, 4, 5, 6), "b": random(6, 7, seed=1)}
    check_prepared(one_op("MatMul", feed), feed, ops=["MatMul"], cpu_ops=frozenset({"MatMul"}))


def test_unknown_shapes_have_no_neighbours() -> None:
    assert neighbours(ir.node("Relu", [ir.Value(name="x")])) is None
