from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.onnx_models import EDGES, check_prepared, one_op, random


@pytest.mark.parametrize("op", ["Sum", "Mean"])
def test_many_with_broadcasting(op: str) -> None:
    feed = {"a": random(2, 3), "b": random(3, seed=1), "c": random(2, 1, seed=2), "d": np.array(2, np.float32)}
    check_prepared(one_op(op, feed), feed, gone=[op])


@pytest.mark.parametrize("op", ["Sum", "Mean"])
def test_one_value_is_itself(op: str) -> None:
    check_prepared(one_op(op, {"a": EDGES}), {"a": EDGES}, ops=["Identity"])


@pytest.mark.parametrize("op", ["Sum", "Mean"])
def test_nan_and_infinity(op: str) -> None:
    feed = {"a": EDGES, "b": EDGES[::-1].copy()}
    check_prepared(one_op(op, feed), feed, gone=[op])
