"""One output's comparison: the form, the numbers, the worst elements and the verdict."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

from ort_rknn_conformance.result import HISTOGRAM_EDGES, CaseResult
from ort_rknn_conformance.run.compare import Tolerance, compare_output

LOOSE = Tolerance(5e-3, "test")


def test_equal_is_perfect() -> None:
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    result = compare_output("y", [x, x], [x.copy(), x.copy()], LOOSE)
    assert result.ok
    assert (result.max_abs, result.rel_rms, result.nan_mismatch, result.top1) == (0, 0, 0, 1)
    assert result.sqnr_db == np.inf
    assert result.worst == ()
    assert result.shape == (3, 4)


def test_worst_elements_say_where() -> None:
    x = np.ones((2, 3), np.float32)
    y = x.copy()
    y[1, 2] = 1.5
    result = compare_output("y", [x, x], [x, y], LOOSE)
    assert not result.ok
    assert "relative RMS" in result.why
    (worst,) = result.worst
    assert (worst.sample, worst.index, worst.expected, worst.actual) == (1, (1, 2), 1.0, 1.5)
    assert result.max_abs == 0.5
    assert result.mean_abs == pytest.approx(0.5 / 12)
    assert result.rel_rms == pytest.approx(0.5 / np.sqrt(12))


def test_within_the_tolerance() -> None:
    x = np.ones(1000, np.float32)
    assert compare_output("y", [x], [x + np.float32(4e-3)], LOOSE).ok
    assert not compare_output("y", [x], [x + np.float32(6e-3)], LOOSE).ok


def test_form_errors_come_first() -> None:
    x = np.ones((2, 3), np.float32)
    assert compare_output("y", [x], [x.T.copy()], LOOSE).why == "shape (3, 2) instead of (2, 3)"
    assert compare_output("y", [x], [x.astype(np.float64)], LOOSE).why == "dtype float64 instead of float32"
    assert compare_output("y", [[x, x]], [[x]], LOOSE).why == "missing"
    assert not compare_output("y", [[x]], [[x, x]], LOOSE).ok


def test_nan_pattern() -> None:
    x = np.array([1, np.nan, np.inf, -np.inf], np.float32)
    assert compare_output("y", [x], [x.copy()], LOOSE).ok
    for place, value in ((0, np.nan), (1, 0), (2, -np.inf), (3, 1e30)):
        y = x.copy()
        y[place] = value
        result = compare_output("y", [x], [y], LOOSE)
        assert not result.ok
        assert result.nan_mismatch == 1
        assert "NaN" in result.why
        assert result.worst[0].index == (place,)


def test_integers_and_booleans_must_be_equal() -> None:
    x = np.array([1, 2, 3], np.int64)
    assert compare_output("y", [x], [x.copy()], LOOSE).ok
    result = compare_output("y", [x], [np.array([1, 2, 4], np.int64)], LOOSE)
    assert result.why == "1 of 3 elements differ"
    assert result.tolerance == 0
    assert result.top1 is None
    flags = np.array([True, False])
    assert compare_output("y", [flags], [flags.copy()], LOOSE).ok
    assert not compare_output("y", [flags], [~flags], LOOSE).ok
    # a difference that float64 cannot hold
    big = np.array([2**62 + 1], np.int64)
    assert not compare_output("y", [big], [big - 1], LOOSE).ok


def test_strings_sequences_and_maps() -> None:
    words = np.array(["a", "b"], object)
    assert compare_output("y", [words], [words.copy()], LOOSE).ok
    result = compare_output("y", [words], [np.array(["a", "c"], object)], LOOSE)
    assert result.why == "1 elements differ"
    assert result.worst[0].expected == "b"
    x = np.ones(3, np.float32)
    assert compare_output("y", [[x, x]], [[x, x]], LOOSE).ok
    assert compare_output("y", [[{0: 0.5, 1: 0.5}]], [[{0: 0.5, 1: 0.5}]], LOOSE).ok
    assert not compare_output("y", [[{0: 0.5, 1: 0.5}]], [[{0: 0.5}]], LOOSE).ok


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.complex64])
def test_other_floats(dtype: np.dtype) -> None:
    x = np.array([1, 2, 3]).astype(dtype)
    assert compare_output("y", [x], [x.copy()], LOOSE).ok
    assert not compare_output("y", [x], [np.array([1, 2, 4]).astype(dtype)], LOOSE).ok


def test_nothing_to_compare() -> None:
    empty = np.zeros((0, 3), np.float32)
    assert compare_output("y", [empty], [empty.copy()], LOOSE).ok
    assert compare_output("y", [[]], [[]], LOOSE).ok
    assert compare_output("y", [np.float32(1)], [np.float32(1)], LOOSE).ok
    assert not compare_output("y", [np.float32(1)], [np.float32(2)], LOOSE).ok


def test_top1_agreement_is_per_row() -> None:
    x = np.array([[0.1, 0.9], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]], np.float32)
    y = x.copy()
    y[1] = [0.49, 0.51]
    assert compare_output("y", [x], [y], LOOSE).top1 == 0.75


def test_small_zero_reference() -> None:
    zero = np.zeros(4, np.float32)
    assert compare_output("y", [zero], [zero.copy()], LOOSE).ok
    assert not compare_output("y", [zero], [zero + 1], LOOSE).ok


def test_top5_histogram_and_mean_relative() -> None:
    x = np.arange(20, dtype=np.float32).reshape(2, 10) + 1
    y = x.copy()
    y[0, 9], y[1, 9] = 6.5, 0.0  # the fifth largest of its row; the smallest of its row
    result = compare_output("y", [x], [y], LOOSE)
    assert (result.top1, result.top5) == (0, 0.5)
    assert result.mean_rel == pytest.approx((3.5 / 10 + 1) / 20)
    assert sum(result.histogram) == 20
    assert result.histogram[0] == 18
    assert len(result.histogram) == len(HISTOGRAM_EDGES) + 2
    y[0, 9] = np.nan
    lost = compare_output("y", [x], [y], LOOSE)
    assert lost.top5 == 0
    assert lost.histogram[-1] == 1
    assert compare_output("y", [x[:, :9]], [x[:, :9]], LOOSE).top5 is None


def test_an_output_of_nothing_but_nan_has_no_numbers() -> None:
    result = compare_output("y", [np.ones(3, np.float32)], [np.full(3, np.nan, np.float32)], Tolerance(0.1, "t"))
    assert not result.ok
    assert result.nan_mismatch == 3
    assert np.isnan([result.rel_rms, result.max_abs, result.cosine, result.sqnr_db]).all(), "0 would look perfect"


def _detections(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(20, 620, (1, 4, 400))
    scores = np.where(rng.random((1, 80, 400)) < 0.02, rng.uniform(0.2, 0.9, (1, 80, 400)), 1e-4)
    return np.concatenate([boxes, scores], axis=1).astype(np.float32)


@pytest.mark.parametrize("limit", [Tolerance(0.02, "fp16", 2**-10), Tolerance(0.4, "int8", 1 / 255)])
def test_lost_scores_are_seen_beside_large_boxes(limit: Tolerance) -> None:
    want = _detections()
    got = want.copy()
    got[:, 4:] = 0
    found = compare_output("out", [want], [got], limit)
    assert found.rel_rms < 0.02  # which hides it
    assert not found.ok
    assert found.why.startswith("4-83 of axis 1 (values up to 0.899): relative RMS 1 is above")
    scores, boxes = found.groups
    assert (scores.indices, scores.ok, boxes.indices, boxes.ok) == ("4-83", False, "0-3", True)
    assert scores.rel_rms == pytest.approx(1.0)
    assert boxes.rel_rms == 0.0


def test_rounded_detections_agree() -> None:
    want = _detections()
    got = want.astype(np.float16).astype(np.float32)
    found = compare_output("out", [want, want], [got, got], Tolerance(0.005, "fp16", 2**-10))
    assert found.ok
    assert [group.tolerance for group in found.groups] == [0.025, 0.005]
    assert all(group.ok and not group.note for group in found.groups)


def test_scores_that_are_almost_nothing_are_not_judged() -> None:
    want = _detections()
    want[:, 4:] = np.float32(1e-5)
    got = want.copy()
    got[:, 4:] = 0
    found = compare_output("out", [want], [got], Tolerance(0.02, "fp16", 2**-10))
    assert found.ok
    assert "data with something to find" in found.groups[0].note


def test_a_small_group_that_is_no_probability_has_no_such_excuse() -> None:
    want = np.concatenate([np.full((1, 2, 50), 300.0), np.full((1, 2, 50), -0.0005)], axis=1).astype(np.float32)
    got = want.copy()
    got[:, 2:] = 0
    assert not compare_output("out", [want], [got], Tolerance(0.02, "fp16", 2**-10)).ok


def test_groups_survive_json() -> None:
    want = _detections()
    got = want.copy()
    got[:, 4:, 0] = np.inf
    case = CaseResult("c", "wrong", outputs=(compare_output("out", [want], [got], Tolerance(0.02, "fp16")),))
    assert CaseResult.from_dict(json.loads(json.dumps(case.to_dict(), allow_nan=False))) == case
