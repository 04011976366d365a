from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.helpers.onnx_models import EDGES, check_prepared, one_op, random
from tests.helpers.versions import needs_onnxruntime

OPS = ["ReduceL1", "ReduceSumSquare", "ReduceLogSum"]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [None, [1], [-1, 0]])
def test_axes_as_attribute_and_as_input(op: str, opset: int, keepdims: int, axes: list[int] | None) -> None:
    feed = {"x": np.abs(random(2, 3, 4)) + 0.1}
    constants: dict[str, np.ndarray] = {}
    attributes: dict[str, Any] = {"keepdims": keepdims}
    if axes is not None and opset >= 18:
        constants["axes"] = np.array(axes, np.int64)
    elif axes is not None:
        attributes["axes"] = axes
    check_prepared(one_op(op, feed, constants, opset=opset, **attributes), feed, gone=[op])


@pytest.mark.parametrize("op", OPS)
def test_nan_and_infinity(op: str) -> None:
    feed = {"x": EDGES[:18].reshape(3, 6)}
    check_prepared(one_op(op, feed, {"axes": np.array([1], np.int64)}), feed, gone=[op])


def test_runtime_axes_stay() -> None:
    feed = {"x": random(2, 3), "axes": np.array([1], np.int64)}
    check_prepared(one_op("ReduceL1", feed), feed, ops=["ReduceL1"])


def test_integers_stay() -> None:
    whole = {"x": np.arange(6, dtype=np.int32).reshape(2, 3)}
    check_prepared(one_op("ReduceL1", whole), whole, ops=["ReduceL1"])


@needs_onnxruntime("1.24", "a reduction over no axes runs")
def test_noop_stays() -> None:
    feed = {"x": random(2, 3)}
    check_prepared(one_op("ReduceL1", feed, noop_with_empty_axes=1), feed, ops=["ReduceL1"])
