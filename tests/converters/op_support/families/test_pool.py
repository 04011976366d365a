from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.op_rule import reason

IMAGE = ("float", [1, 4, 8, 8])
VOLUME = ("float", [1, 4, 8, 8, 8])


def test_pooling_of_images_is_taken() -> None:
    for op in ("MaxPool", "AveragePool"):
        assert reason(op, [IMAGE], [("float", [1, 4, 4, 4])], kernel_shape=[2, 2], strides=[2, 2]) is None
    assert reason("GlobalAveragePool", [IMAGE], [("float", [1, 4, 1, 1])]) is None


def test_max_pooling_of_volumes_aborts_the_compiler() -> None:
    assert (
        reason("MaxPool", [VOLUME], [("float", [1, 4, 4, 4, 4])], kernel_shape=[2, 2, 2])
        == "MaxPool3d aborts the compiler"
    )


def test_average_pooling_of_volumes_is_taken_unless_dilated() -> None:
    result = [("float", [1, 4, 4, 4, 4])]
    assert reason("AveragePool", [VOLUME], result, kernel_shape=[2, 2, 2]) is None
    assert (
        reason("AveragePool", [VOLUME], result, kernel_shape=[2, 2, 2], dilations=[2, 2, 2])
        == "AveragePool3d with dilations: the toolkit refuses it"
    )


def test_roi_align_is_average_and_one_image_at_a_time() -> None:
    where = [("float", [3, 4]), np.zeros(3, np.int64)]
    assert reason("RoiAlign", [IMAGE, *where], [("float", [3, 4, 5, 5])]) is None
    assert reason("RoiAlign", [IMAGE, *where], [("float", [3, 4, 5, 5])], mode="max") is not None
    assert reason("RoiAlign", [("float", [2, 4, 8, 8]), *where], [("float", [3, 4, 5, 5])]) is not None


@pytest.mark.parametrize("target", ["rk3588", "rk3576", "rk3566"])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_rows_that_do_not_fit_the_registers(op: str, target: str) -> None:
    def said(width: int) -> str | None:
        shapes = [("float", [1, 8, 2, width])], [("float", [1, 8, 2, width // 2])]
        return reason(op, *shapes, target=target, kernel_shape=[1, 2], strides=[1, 2])

    assert said(8192) is None
    assert "registers" in str(said(8194))
