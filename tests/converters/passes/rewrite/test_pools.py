"""Pooling of volumes, and with dilations, where the compiler has none."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.onnx_models import check_prepared, one_op, random


@pytest.mark.parametrize(
    "said",
    [
        {"kernel_shape": [2, 2, 2]},
        {"kernel_shape": [1, 3, 3], "strides": [1, 2, 2], "pads": [0, 1, 1, 0, 1, 1]},
        {"kernel_shape": [3, 3, 2], "strides": [2, 2, 2], "pads": [1, 1, 0, 1, 1, 1]},
        {"kernel_shape": [3, 2, 2], "strides": [2, 3, 2], "ceil_mode": 1},
        {"kernel_shape": [2, 2, 2], "dilations": [2, 1, 3]},
        {"kernel_shape": [1, 1, 1], "strides": [2, 1, 1]},
        {"kernel_shape": [2, 2, 2], "auto_pad": "VALID"},
    ],
)
def test_volumes(said: dict[str, Any]) -> None:
    feed = {"x": random(2, 3, 6, 7, 8)}
    prepared = check_prepared(one_op("MaxPool", feed, **said), feed)
    pools = [node for node in prepared.graph if node.op_type == "MaxPool"]
    assert {len(node.outputs[0].shape or ()) for node in pools} == {4}
    assert len(pools) == (
        1 if said["kernel_shape"][0] == 1 and "ceil_mode" not in said and said["strides"][0] == 1 else 2
    )


def test_before_dilations() -> None:
    feed = {"x": random(1, 2, 4, 4, 4)}
    check_prepared(one_op("MaxPool", feed, opset=8, kernel_shape=[2, 2, 2]), feed, gone=[])


@pytest.mark.parametrize("said", [{"auto_pad": "SAME_UPPER"}, {"outputs": 2}])
def test_what_stays(said: dict[str, Any]) -> None:
    feed = {"x": random(1, 2, 4, 4, 4)}
    check_prepared(one_op("MaxPool", feed, kernel_shape=[2, 2, 2], **said), feed, ops=["MaxPool"])


def test_images_stay() -> None:
    feed = {"x": random(1, 2, 4, 4)}
    check_prepared(one_op("MaxPool", feed, kernel_shape=[2, 2]), feed, ops=["MaxPool"])


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "said",
    [
        {"kernel_shape": [2, 2], "dilations": [2, 2]},
        {"kernel_shape": [3, 2], "dilations": [1, 3], "strides": [2, 1]},
        {"kernel_shape": [1, 3], "dilations": [1, 2], "strides": [1, 2]},
        {"kernel_shape": [2, 2], "dilations": [2, 1], "auto_pad": "VALID"},
    ],
)
def test_pictures(op_type: str, said: dict[str, Any]) -> None:
    feed = {"x": random(2, 3, 8, 9)}
    check_prepared(one_op(op_type, feed, opset=19, **said), feed, gone=[op_type], target="rk3576")


@pytest.mark.parametrize(
    "said",
    [
        {"kernel_shape": [3, 3], "dilations": [2, 2], "pads": [2, 1, 2, 1]},
        {"kernel_shape": [3, 3], "dilations": [2, 3], "strides": [3, 2], "ceil_mode": 1},
        {"kernel_shape": [2, 3], "dilations": [3, 2], "strides": [2, 3], "pads": [1, 2, 0, 1], "ceil_mode": 1},
    ],
)
def test_padding_is_never_the_largest(said: dict[str, Any]) -> None:
    feed = {"x": random(2, 3, 8, 9) - 5}
    check_prepared(one_op("MaxPool", feed, **said), feed, gone=["MaxPool"], target="rk3576")


def test_rows_and_volumes() -> None:
    rows, volume = {"x": random(2, 3, 12)}, {"x": random(1, 2, 5, 6, 7)}
    check_prepared(one_op("MaxPool", rows, kernel_shape=[3], dilations=[2]), rows, gone=["MaxPool"], target="rk3576")
    model = one_op("MaxPool", volume, kernel_shape=[2, 2, 2], dilations=[2, 2, 2])
    check_prepared(model, volume, gone=["MaxPool"], target="rk3576")


@pytest.mark.parametrize(
    ("op_type", "said"),
    [
        ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2], "target": "rk3588"}),
        ("MaxPool", {"kernel_shape": [2, 2], "dilations": [1, 1]}),
        ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2], "outputs": 2}),
        ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2], "auto_pad": "SAME_LOWER"}),
        ("AveragePool", {"kernel_shape": [2, 2], "dilations": [2, 2], "pads": [1, 1, 0, 0]}),
    ],
)
def test_dilations_that_stay(op_type: str, said: dict[str, Any]) -> None:
    feed = {"x": random(1, 2, 6, 6)}
    target = said.pop("target", "rk3576")
    check_prepared(one_op(op_type, feed, opset=19, **said), feed, ops=[op_type], target=target)
