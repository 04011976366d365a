from __future__ import annotations

import numpy as np

from tests.helpers.onnx_models import EDGES, check_prepared, one_op


def test_sign_of_floats() -> None:
    check_prepared(one_op("Sign", {"x": EDGES}), {"x": EDGES}, ops=["Less", "Where", "Greater", "Where"])


def test_sign_of_integers_stays() -> None:
    x = np.array([-3, 0, 3], np.int64)
    check_prepared(one_op("Sign", {"x": x}), {"x": x}, ops=["Sign"])
