from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.onnx_models import check_prepared, one_op


@pytest.mark.parametrize("op", ["Or", "Xor"])
def test_truth_table_with_broadcasting(op: str) -> None:
    feed = {"a": np.array([[False], [True]]), "b": np.array([False, True])}
    check_prepared(one_op(op, feed), feed, gone=[op])
