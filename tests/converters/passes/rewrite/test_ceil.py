from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.onnx_models import EDGES, check_prepared, one_op


@pytest.mark.parametrize("values", [EDGES, np.array(1.2, np.float32), EDGES.astype(np.float64)])
def test_ceil_is_the_negative_of_floor(values: np.ndarray) -> None:
    check_prepared(one_op("Ceil", {"x": values}), {"x": values}, ops=["Neg", "Floor", "Neg"])
