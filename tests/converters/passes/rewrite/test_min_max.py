from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.onnx_models import EDGES, check_prepared, one_op, random


def test_min_of_three_with_broadcasting() -> None:
    feed = {"a": random(2, 3, 4), "b": random(3, 1, seed=1), "c": random(4, seed=2)}
    check_prepared(one_op("Min", feed), feed, ops=["Neg", "Neg", "Neg", "Max", "Neg"])


def test_min_meets_nan_and_infinity() -> None:
    a, b = (grid.reshape(-1) for grid in np.meshgrid(EDGES, EDGES))
    feed = {"a": np.ascontiguousarray(a), "b": np.ascontiguousarray(b)}
    check_prepared(one_op("Min", feed), feed, gone=["Min"])


@pytest.mark.parametrize("op", ["Min", "Max"])
@pytest.mark.parametrize("opset", [8, 11, 13, 18])
@pytest.mark.parametrize("bound", [6.0, -np.inf, np.inf, 0.0])
def test_a_single_number_makes_a_clip(op: str, opset: int, bound: float) -> None:
    feed = {"x": EDGES}
    model = one_op(op, feed, {"bound": np.array(bound, np.float32)}, opset=opset)
    check_prepared(model, feed, ops=["Clip"])


def test_a_number_that_widens_the_shape_makes_no_clip() -> None:
    feed = {"x": random(3)}
    check_prepared(one_op("Min", feed, {"bound": np.full((1, 1), 0.1, np.float32)}), feed, gone=["Min", "Clip"])


def test_a_nan_bound_makes_no_clip() -> None:
    feed = {"x": random(3)}
    check_prepared(one_op("Min", feed, {"bound": np.array(np.nan, np.float32)}), feed, gone=["Min", "Clip"])


def test_min_of_one_value_is_that_value() -> None:
    feed = {"x": random(3)}
    check_prepared(one_op("Min", feed), feed, ops=["Identity"])


def test_integers_and_a_max_of_values_stay() -> None:
    whole = {"a": np.array([-(2**31), 3], np.int32), "b": np.array([2, 2], np.int32)}
    check_prepared(one_op("Min", whole), whole, ops=["Min"])
    feed = {"a": random(3), "b": random(3, seed=1)}
    check_prepared(one_op("Max", feed), feed, ops=["Max"])
