"""Outputs are compared in the measures a plan shows: relative RMS, other elements, NaN, shapes."""

from __future__ import annotations

import math

import numpy as np

from ort_rknn_converters.numerics.output_errors import off, percent, summary, usual_sizes

ONES = np.ones((2, 3), np.float32)


def test_floats_are_off_by_their_relative_rms() -> None:
    found = off([{"y": ONES}, {"y": ONES}], [{"y": ONES * 1.001}, {"y": ONES * 1.12}])["y"]
    assert (round(found.size, 3), found.words, found.right) == (0.12, "off by 12 %", False)
    assert off([{"y": ONES}], [{"y": ONES * 1.001}])["y"].right


def test_whole_numbers_must_be_equal() -> None:
    found = off([{"y": np.arange(6)}], [{"y": np.array([0, 1, 2, 3, 5, 4])}])["y"]
    assert (found.words, found.right, found.floating) == ("differs in 2 of 6 elements", False, False)
    assert off([{"y": np.arange(6)}], [{"y": np.arange(6)}])["y"].right


def test_shapes_and_nan_have_no_size() -> None:
    shape = off([{"y": ONES}], [{"y": np.ones((2, 2), np.float32)}])["y"]
    nan = off([{"y": ONES}], [{"y": np.full((2, 3), np.nan, np.float32)}], {"y": 1.0})["y"]
    assert shape.words == "has shape [2, 2] instead of [2, 3]"
    assert nan.words == "has NaN or infinity in 6 other places"
    assert math.isinf(shape.size)
    assert math.isinf(nan.size)
    whole = summary({"y": nan})
    assert (whole.outputs[0].rel_rms, whole.problem) == (None, "y has NaN or infinity in 6 other places")


def test_noise_far_below_an_outputs_usual_size_is_none() -> None:
    usual = usual_sizes([{"y": ONES * 100}])
    assert off([{"y": ONES * 1e-11}], [{"y": ONES * 2e-11}], usual)["y"].right
    assert not off([{"y": ONES * 1e-3}], [{"y": ONES * 2e-3}], usual)["y"].right


def test_strings_and_lists_are_left_out() -> None:
    assert off([{"s": np.array(["a"], object), "l": [ONES]}], [{"s": np.array(["b"], object), "l": [ONES]}]) == {}


def test_percent() -> None:
    assert [percent(share) for share in (0.0062, 0.123, 0.999, 3.2)] == ["0.62 %", "12 %", "100 %", "320 %"]
