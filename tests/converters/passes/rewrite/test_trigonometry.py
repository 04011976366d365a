from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.onnx_models import EDGES, check_prepared, one_op


@pytest.mark.parametrize("op", ["Tan", "Cosh"])
def test_by_definition(op: str) -> None:
    near = EDGES[~(np.abs(EDGES) > 80)]
    values = np.concatenate([near, np.linspace(-20, 20, 501, dtype=np.float32), [np.inf, -np.inf]]).astype(np.float32)
    check_prepared(one_op(op, {"x": values}), {"x": values}, gone=[op], rtol=2e-5)


@pytest.mark.parametrize("op", ["Sinh", "Asinh", "Atanh", "Acos", "Asin", "Atan"])
def test_functions_that_would_lose_digits_stay(op: str) -> None:
    x = np.array([1e-4, 0.5, -0.3], np.float32)
    check_prepared(one_op(op, {"x": x}), {"x": x}, ops=[op])
