from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.onnx_models import check_prepared, one_op, random


@pytest.mark.parametrize(
    ("left", "right"), [((6, 4, 1), (6, 1, 1)), ((3, 1), (1, 5)), ((2, 1, 3, 1), (4, 1, 5)), ((1, 3, 1), (1, 2))]
)
def test_one_column_by_one_row(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    feed = {"a": random(*left), "b": random(*right, seed=1)}
    check_prepared(one_op("MatMul", feed), feed, ops=["Mul"])


@pytest.mark.parametrize(("left", "right"), [((3, 2), (2, 5)), ((1,), (1, 5)), ((3, 1), (1,))])
def test_others_stay(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    feed = {"a": random(*left), "b": random(*right, seed=1)}
    check_prepared(one_op("MatMul", feed), feed, ops=["MatMul"])


def test_integers_stay() -> None:
    feed = {"a": np.ones((3, 1), np.int64), "b": np.ones((1, 2), np.int64)}
    check_prepared(one_op("MatMul", feed), feed, ops=["MatMul"])
