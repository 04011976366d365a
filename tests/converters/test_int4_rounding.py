"""Weights in four bits: seven steps either side of zero, by output channel, group of input channels, or all at once."""

from __future__ import annotations

import numpy as np
import pytest

from ort_rknn_converters.int4_rounding import in_four_bits

SIZES = np.array([1, 2, 3, 0.1, 0.5, 9], np.float32)
WEIGHTS = np.random.default_rng(0).normal(size=(6, 40, 3, 3)).astype(np.float32) * SIZES[:, None, None, None]


def off_steps(weights: np.ndarray) -> float:
    """How far weights are from whole sevenths of the largest."""
    steps = weights / (np.abs(weights).max() / 7)
    return float(np.abs(steps - np.rint(steps)).max())


@pytest.mark.parametrize("group", [0, 40])
def test_each_output_channel_has_its_steps(group: int) -> None:
    rounded = in_four_bits(WEIGHTS, (0, 1), group)
    for channel, before in zip(rounded, WEIGHTS, strict=True):
        assert off_steps(channel) < 1e-4
        assert np.abs(channel).max() == pytest.approx(np.abs(before).max())
        assert np.abs(channel - before).max() <= np.abs(before).max() / 14 * 1.0001


def test_groups_of_input_channels_the_last_one_smaller() -> None:
    rounded = in_four_bits(WEIGHTS, (0, 1), 32)
    for part in (slice(32), slice(32, 40)):
        np.testing.assert_array_equal(rounded[:, part], in_four_bits(WEIGHTS[:, part], (0, 1), 0))


def test_one_scale_for_all() -> None:
    rounded = in_four_bits(WEIGHTS, (0, 1), 0, one_scale=True)
    assert off_steps(rounded) < 1e-4
    assert not rounded[3].any()  # a tenth of the others, and a ninetieth of the largest


def test_the_axes_are_told() -> None:
    matrix = WEIGHTS[:, :, 0, 0]
    np.testing.assert_array_equal(in_four_bits(matrix.T, (1, 0), 32), in_four_bits(matrix, (0, 1), 32).T)


def test_zeros_stay_and_the_dtype_too() -> None:
    rounded = in_four_bits(np.zeros((2, 3)), (0, 1), 0)
    assert rounded.dtype == np.float64
    assert not rounded.any()
