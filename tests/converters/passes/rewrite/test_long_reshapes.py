from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.helpers.onnx_models import build, check_prepared, random


def joined(sizes: tuple[int, ...], shape: list[int], axis: int = 2, *, also: bool = False) -> onnx.ModelProto:
    feed = {f"x{number}": random(1, 8, size) for number, size in enumerate(sizes)}
    nodes = [
        helper.make_node("Concat", list(feed), ["c"], axis=axis),
        helper.make_node("Reshape", ["c", "shape"], ["y"]),
        helper.make_node("Neg", ["c"], ["n"]),
    ]
    return build(nodes if also else nodes[:2], feed, ["y", "n"] if also else ["y"], {"shape": np.array(shape)})


def feed_of(sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {f"x{number}": random(1, 8, size) for number, size in enumerate(sizes)}


@pytest.mark.parametrize("axis", [2, -1])
def test_yolo(axis: int) -> None:
    sizes = (6400, 1600, 400)
    model = joined(sizes, [1, 2, 4, 8400], axis)
    check_prepared(model, feed_of(sizes), ops=["Reshape", "Reshape", "Reshape", "Concat"])


@pytest.mark.parametrize(
    ("sizes", "shape", "axis", "also"),
    [
        ((400, 100), [1, 2, 4, 500], 2, False),  # short
        ((8400, 400), [1, 2, 4, 8800], 2, False),  # a part is too long as well
        ((6400, 1600, 400), [1, 4, 16800], 2, False),  # other rows
        ((8192, 8192), [1, 2, 8, 8192], 1, False),  # joined along another axis
        ((6400, 1600, 400), [1, 2, 4, 8400], 2, True),  # wanted elsewhere
    ],
)
def test_what_stays(sizes: tuple[int, ...], shape: list[int], axis: int, also: bool) -> None:
    ops = ["Concat", "Reshape", "Neg"] if also else ["Concat", "Reshape"]
    check_prepared(joined(sizes, shape, axis, also=also), feed_of(sizes), ops=ops)
