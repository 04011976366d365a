"""Channels and columns of other sizes are found from the data, wherever they stand."""

from __future__ import annotations

import numpy as np
import pytest

from ort_rknn_converters.numerics.value_groups import MOST, find_groups


def _yolo(rng: np.random.Generator) -> np.ndarray:
    boxes = rng.uniform(20, 620, (1, 4, 8400))
    scores = rng.uniform(0, 0.05, (1, 80, 8400))
    return np.concatenate([boxes, scores], axis=1).astype(np.float32)


def _shown(groups: tuple) -> list[tuple[int, str, bool]]:
    return [(group.axis, group.name, group.largest) for group in groups]


def test_boxes_and_scores_in_channels() -> None:
    assert _shown(find_groups([_yolo(np.random.default_rng(0))])) == [(1, "4-83", False), (1, "0-3", True)]


def test_in_columns_and_over_samples() -> None:
    samples = [np.moveaxis(_yolo(np.random.default_rng(seed)), 1, 2) for seed in range(2)]
    groups = find_groups(samples)
    assert _shown(groups) == [(2, "4-83", False), (2, "0-3", True)]
    assert groups[1].of(samples).shape == (2 * 8400 * 4,)


def test_interleaved_channels() -> None:
    points = np.tile(np.array([300.0, 200.0, 0.5]), 17)[None, :, None] * np.ones((1, 51, 100))
    small, large = find_groups([points.astype(np.float32)])
    assert small.indices == tuple(range(2, 51, 3))
    assert small.name == "2,5,8,11,14,17,20,23,..."
    assert len(large.indices) == 34


def test_detections_of_three_sizes() -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.uniform(100, 600, (1, 50, 4)), rng.uniform(0.1, 0.9, (1, 50, 1))], axis=2)
    rows = np.concatenate([rows, rng.integers(5, 20, (1, 50, 1))], axis=2).astype(np.float32)
    assert [name for _, name, _ in _shown(find_groups([rows]))] == ["4", "5", "0-3"]


def test_zeros_belong_to_the_smallest() -> None:
    value = np.ones((1, 6, 10), np.float32)
    value[:, 0] = 100
    value[:, 5] = 0
    assert _shown(find_groups([value])) == [(1, "1-5", False), (1, "0", True)]


@pytest.mark.parametrize(
    "value",
    [
        np.random.default_rng(0).normal(size=(1, 1000)).astype(np.float32),
        np.random.default_rng(0).normal(size=(1, 32, 20, 20)).astype(np.float16),
        np.zeros((1, 4), np.float32),
        np.array([1000.0, 1.0], np.float32)[:1],
        np.float32(3),
        np.zeros((0, 4), np.float32),
        np.array([[1, 1000]], np.int64),
    ],
)
def test_one_size_is_no_group(value: np.ndarray) -> None:
    assert find_groups([np.asarray(value)]) == ()
    assert find_groups([]) == ()


def test_what_is_not_finite_counts_for_nothing() -> None:
    value = np.ones((1, 3, 4), np.float32)
    value[:, 0] = 1000
    value[0, 1, 2] = np.inf
    value[0, 2, 2] = np.nan
    assert _shown(find_groups([value])) == [(1, "1-2", False), (1, "0", True)]


def test_there_are_never_many() -> None:
    value = (10.0 ** (2 * np.arange(15)))[None, :] * np.ones((1, 15))
    groups = find_groups([value])
    assert len(groups) == MOST
    assert sorted(index for group in groups for index in group.indices) == list(range(15))
