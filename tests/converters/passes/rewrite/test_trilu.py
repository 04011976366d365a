from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.onnx_models import EDGES, check_prepared, one_op, random


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, -1, 0, 2, 100, -(2**40)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_constant_diagonal(upper: int, k: int | None, dtype: type) -> None:
    feed = {"x": (random(2, 4, 5) * 4).astype(dtype)}
    constants = {} if k is None else {"k": np.array(k, np.int64)}
    check_prepared(one_op("Trilu", feed, constants, upper=upper), feed, gone=["Trilu"])


def test_nan_in_the_part_cut_off_vanishes() -> None:
    feed = {"x": EDGES.reshape(4, 5)}
    check_prepared(one_op("Trilu", feed), feed, ops=["Where"])


def test_runtime_diagonal_stays() -> None:
    feed = {"x": random(3, 3), "k": np.array(1, np.int64)}
    check_prepared(one_op("Trilu", feed), feed, ops=["Trilu"])
