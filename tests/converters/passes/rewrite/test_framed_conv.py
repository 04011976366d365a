from __future__ import annotations

import pytest

from tests.helpers.onnx_models import check_prepared, one_op, random


@pytest.mark.parametrize(
    ("channels", "kernel", "step", "pads"),
    [(1, 400, 160, (0, 0)), (1, 401, 160, (200, 200)), (2, 64, 100, (3, 0)), (1, 20, 7, (0, 5))],
)
def test_long_rows_are_cut_into_steps(channels: int, kernel: int, step: int, pads: tuple[int, int]) -> None:
    feed = {"x": random(1, channels, 9001)}
    constants = {"w": random(4, channels, kernel, seed=1) / 20, "b": random(4, seed=2)}
    model = one_op("Conv", feed, constants, opset=17, strides=[step], pads=list(pads))
    prepared = check_prepared(model, feed, rtol=1e-3)
    [conv] = [node for node in prepared.graph if node.op_type == "Conv"]
    assert conv.inputs[1] is not None
    assert conv.inputs[1].shape == (4, channels * step, -(-kernel // step))


@pytest.mark.parametrize(("length", "kernel", "step"), [(8192, 400, 160), (9001, 16, 8), (9001, 400, 1)])
def test_what_fits_or_has_no_steps_stays(length: int, kernel: int, step: int) -> None:
    feed = {"x": random(1, 1, length)}
    model = one_op("Conv", feed, {"w": random(2, 1, kernel, seed=1)}, opset=17, strides=[step])
    check_prepared(model, feed, ops=["Conv"], rtol=1e-3)
