from __future__ import annotations

import numpy as np
from onnx import helper

from tests.helpers.onnx_models import build, check_prepared, one_op, random

EMPTY = np.zeros((2, 0, 4), np.float32)


def test_an_empty_cache_is_left_out() -> None:
    feed = {"past": EMPTY, "x": random(2, 3, 4)}
    nodes = [
        helper.make_node("Concat", ["past", "x"], ["present"], axis=1),
        helper.make_node("Sigmoid", ["present"], ["y"]),
    ]
    prepared = check_prepared(build(nodes, feed, ["present", "y"]), feed, gone=["Concat"])
    assert [value.name for node in prepared.graph if node.op_type == "Sigmoid" for value in node.inputs] != ["past"]


def test_of_several_parts_those_with_something_stay() -> None:
    feed = {"a": random(2, 1, 4), "past": EMPTY, "b": random(2, 3, 4, seed=1)}
    check_prepared(one_op("Concat", feed, axis=-2), feed, ops=["Concat"])


def test_nothing_but_empty_parts_stay() -> None:
    feed = {"a": EMPTY, "b": EMPTY}
    check_prepared(one_op("Concat", feed, axis=1), feed, ops=["Concat"])
