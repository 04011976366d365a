from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.onnx_models import check_prepared, one_op


@pytest.mark.parametrize("to", [np.float16, np.int64, np.bool_, np.float32, np.uint8])
def test_cast_like_is_a_cast(to: type) -> None:
    feed = {"x": np.array([0.5, 2.0, 7.0], np.float32), "like": np.zeros(1, to)}
    check_prepared(one_op("CastLike", feed), feed, ops=["Cast"])
