"""Weights in int8 and in four bits: whole steps, by output channel, group of input channels, or all at once."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from ort_rknn_converters.numerics.weight_rounding import as_stored, in_eight_bits, in_four_bits

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


def test_int8_keeps_255_steps_a_channel() -> None:
    weights = np.array([[1.0, -0.5, 0.0011], [0.2, 0.1, 0.05]], np.float32)
    rounded = in_eight_bits(weights, (0,))
    steps = rounded / (np.array([[1.5], [0.2]]) / 255)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    np.testing.assert_allclose(rounded, weights, atol=1.5 / 255 / 2 + 1e-6)


def test_int8_zeros_stay() -> None:
    np.testing.assert_array_equal(in_eight_bits(np.zeros((2, 3), np.float32), (0,)), 0)


def test_float16_goes_through_float16() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    np.testing.assert_array_equal(as_stored(WEIGHTS, node, "float16"), WEIGHTS.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(("op", "axis"), [("Conv", 0), ("ConvTranspose", 1), ("MatMul", 1)])
def test_the_op_says_which_axis_is_the_output(op: str, axis: int) -> None:
    weights = WEIGHTS[:, :6, 0, 0] if op == "MatMul" else WEIGHTS[:, :6]
    node = helper.make_node(op, ["x", "w"], ["y"])
    np.testing.assert_array_equal(as_stored(weights, node, "int8"), in_eight_bits(weights, (axis,)))
    np.testing.assert_array_equal(as_stored(weights, node, "int4"), in_four_bits(weights, (axis, 1 - axis), 0))


def test_the_identity_is_stored_along_and_taken_off_again() -> None:
    weights = WEIGHTS[:, :6] / 10
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    added = np.zeros_like(weights)
    added[range(6), range(6), 1, 1] = 1
    expected = in_eight_bits(weights + added, (0,)) - added
    np.testing.assert_allclose(as_stored(weights, node, "int8", with_identity=True), expected)
