from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.helpers.onnx_models import build, check_prepared, random


def joined(sizes: tuple[int, ...], shape: list[int], axis: int = 2, *, also: bool = False) -> onnx.ModelProto:
    feed = {f"x{number}": random(1, 8, size) for number, size in enumerate(sizes)}
    nodes = [
        helper.make_node("Concat", list(feed), ["c"], axis=axis),
        helper.make_node("Reshape", ["c", "shape"], ["y"]),
        helper.make_node("Neg", ["c"], ["n"]),
    ]
    return build(nodes if also else nodes[:2], feed, ["y", "n"] if also else ["y"], {"shape": np.array(shape)})


def feed_of(sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {f"x{number}": random(1, 8, size) for number, size in enumerate(sizes)}


@pytest.mark.parametrize("axis", [2, -1])
def test_yolo(axis: int) -> None:
    sizes = (6400, 1600, 400)
    model = joined(sizes, [1, 2, 4, 8400], axis)
    check_prepared(model, feed_of(sizes), ops=["Reshape", "Reshape", "Reshape", "Concat"])


@pytest.mark.parametrize(
    ("sizes", "shape", "axis", "also"),
    [
        ((400, 100), [1, 2, 4, 500], 2, False),  # short
        ((8400, 400), [1, 2, 4, 8800], 2, False),  # a part is too long as well
        ((6400, 1600, 400), [1, 4, 16800], 2, False),  # other rows
        ((8192, 8192), [1, 2, 8, 8192], 1, False),  # joined along another axis
        ((6400, 1600, 400), [1, 2, 4, 8400], 2, True),  # wanted elsewhere
    ],
)
def test_what_stays(sizes: tuple[int, ...], shape: list[int], axis: int, also: bool) -> None:
    ops = ["Concat", "Reshape", "Neg"] if also else ["Concat", "Reshape"]
    check_prepared(joined(sizes, shape, axis, also=also), feed_of(sizes), ops=ops)


def scores(
    heads: int, high: int, wide: int, *, swapped: bool = False, also: bool = False
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Attention's scores with a number for each row and each column of the keys, as SAM and ViTDet add them."""
    count = high * wide
    feed = {
        "x": random(1, heads, count, count),
        "rows": random(heads, count, high, 1),
        "columns": random(heads, count, 1, wide),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "pictures"], ["p"]),
        helper.make_node("Add", ["rows", "p"] if swapped else ["p", "rows"], ["a"]),
        helper.make_node("Add", ["a", "columns"], ["b"]),
        helper.make_node("Reshape", ["b", "flat"], ["f"]),
        helper.make_node("Softmax", ["f"], ["y"], axis=-1),
        helper.make_node("Neg", ["a"], ["n"]),
    ]
    constants = {"pictures": np.array([heads, count, high, wide]), "flat": np.array([1, heads, count, count])}
    outputs = ["y", "n"] if also else ["y"]
    return build(nodes if also else nodes[:-1], feed, outputs, constants), feed


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("size", [(32, 8), (9, 30)])
def test_relative_positions(size: tuple[int, int], swapped: bool) -> None:
    model, feed = scores(32, *size, swapped=swapped)
    prepared = check_prepared(model, feed)
    shapes = [list(node.outputs[0].shape or ()) for node in prepared.graph if node.op_type == "Reshape"]
    assert shapes == [[1, 32, size[0] * size[1], narrow] for narrow in size]


@pytest.mark.parametrize(("heads", "also"), [(2, False), (32, True)])
def test_small_scores_and_sums_wanted_in_between_stay(heads: int, also: bool) -> None:
    model, feed = scores(heads, 32, 8, also=also)
    assert "MatMul" not in [node.op_type for node in check_prepared(model, feed).graph]
