from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests.helpers.onnx_models import build, check_prepared, random


@pytest.mark.parametrize(("op", "argument"), [("Tile", [1, 1, 16]), ("Expand", [1, 3, 16])])
def test_repeated_positions(op: str, argument: list[int]) -> None:
    nodes = [
        helper.make_node(op, ["i", "n"], ["positions"]),
        helper.make_node("GatherElements", ["x", "positions"], ["y"], axis=1),
    ]
    feed = {"x": random(1, 20, 16), "i": np.array([[[7], [0], [-1]]])}
    made = build(nodes, feed, {"y": random(1, 3, 16)}, {"n": np.array(argument)})
    check_prepared(made, feed, ops=["Reshape", "Gather"])


def test_rows_taken_in_part_and_batches_stay() -> None:
    nodes = [
        helper.make_node("Expand", ["i", "n"], ["positions"]),
        helper.make_node("GatherElements", ["x", "positions"], ["y"], axis=1),
    ]
    feed = {"x": random(1, 20, 16), "i": np.array([[[7], [0]]])}
    made = build(nodes, feed, {"y": random(1, 2, 8)}, {"n": np.array([1, 2, 8])})
    check_prepared(made, feed, ops=["Expand", "GatherElements"])
    feed = {"x": random(2, 20, 16), "i": np.array([[[7], [0]], [[1], [2]]])}
    made = build(nodes, feed, {"y": random(2, 2, 16)}, {"n": np.array([2, 2, 16])})
    check_prepared(made, feed, ops=["Expand", "GatherElements"])
