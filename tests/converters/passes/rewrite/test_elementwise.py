from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.onnx_models import EDGES, check_prepared, one_op, random


@pytest.mark.parametrize("values", [EDGES, np.array(1.2, np.float32), EDGES.astype(np.float64)])
def test_ceil_is_the_negative_of_floor(values: np.ndarray) -> None:
    check_prepared(one_op("Ceil", {"x": values}), {"x": values}, ops=["Neg", "Floor", "Neg"])


@pytest.mark.parametrize("op", ["Or", "Xor"])
def test_or_and_xor_truth_table_with_broadcasting(op: str) -> None:
    feed = {"a": np.array([[False], [True]]), "b": np.array([False, True])}
    check_prepared(one_op(op, feed), feed, gone=[op])


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


def test_sign_of_floats() -> None:
    check_prepared(one_op("Sign", {"x": EDGES}), {"x": EDGES}, ops=["Less", "Where", "Greater", "Where"])


def test_sign_of_integers_stays() -> None:
    x = np.array([-3, 0, 3], np.int64)
    check_prepared(one_op("Sign", {"x": x}), {"x": x}, ops=["Sign"])


@pytest.mark.parametrize("op", ["Sum", "Mean"])
def test_sum_of_many_with_broadcasting(op: str) -> None:
    feed = {"a": random(2, 3), "b": random(3, seed=1), "c": random(2, 1, seed=2), "d": np.array(2, np.float32)}
    check_prepared(one_op(op, feed), feed, gone=[op])


@pytest.mark.parametrize("op", ["Sum", "Mean"])
def test_sum_of_one_value_is_itself(op: str) -> None:
    check_prepared(one_op(op, {"a": EDGES}), {"a": EDGES}, ops=["Identity"])


@pytest.mark.parametrize("op", ["Sum", "Mean"])
def test_sum_of_nan_and_infinity(op: str) -> None:
    feed = {"a": EDGES, "b": EDGES[::-1].copy()}
    check_prepared(one_op(op, feed), feed, gone=[op])


@pytest.mark.parametrize("op", ["Tan", "Cosh"])
def test_tan_and_cosh_by_definition(op: str) -> None:
    near = EDGES[~(np.abs(EDGES) > 80)]
    values = np.concatenate([near, np.linspace(-20, 20, 501, dtype=np.float32), [np.inf, -np.inf]]).astype(np.float32)
    check_prepared(one_op(op, {"x": values}), {"x": values}, gone=[op], rtol=2e-5)


@pytest.mark.parametrize("op", ["Sinh", "Asinh", "Atanh", "Acos", "Asin", "Atan"])
def test_functions_that_would_lose_digits_stay(op: str) -> None:
    x = np.array([1e-4, 0.5, -0.3], np.float32)
    check_prepared(one_op(op, {"x": x}), {"x": x}, ops=[op])
