"""The measures of how far tensors are apart, of one block of elements and of many."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ort_rknn_converters.numerics import tensor_error
from ort_rknn_converters.numerics.tensor_error import compare


def test_equal() -> None:
    error = compare(np.float32([1, -2, 0]), np.float32([1, -2, 0]))
    assert (error.max_abs, error.max_rel, error.mean_abs, error.rel_rms, error.cosine) == (0, 0, 0, 0, 1)
    assert error.sqnr_db == float("inf")
    assert error.shape_ok
    assert error.dtype_ok


def test_numbers() -> None:
    error = compare(np.float32([3, 4]), np.float32([3, 4.5]))
    assert error.max_abs == 0.5
    assert error.max_rel == 0.125
    assert error.mean_abs == 0.25
    assert error.rel_rms == pytest.approx(0.1)
    assert error.sqnr_db == pytest.approx(20)
    assert error.cosine == pytest.approx((9 + 18) / (5 * np.sqrt(9 + 20.25)))


def test_expected_zero_gives_the_absolute_error() -> None:
    error = compare(np.zeros(4), np.full(4, 1e-3))
    assert error.rel_rms == pytest.approx(1e-3)
    assert error.cosine == 0


def test_nan_and_infinity() -> None:
    want = np.float32([np.nan, np.inf, -np.inf, 1, 2, 3])
    assert compare(want, want).nan_mismatch == 0
    assert compare(want, np.float32([1, np.inf, np.inf, np.nan, 2, 3])).nan_mismatch == 3
    assert compare(want, np.float32([np.nan, np.inf, -np.inf, 1, 2, 4])).max_abs == 1


def test_nothing_finite() -> None:
    error = compare(np.float32([np.nan]), np.float32([np.nan]))
    assert (error.nan_mismatch, error.rel_rms) == (0, 0)


def test_large_numbers_do_not_overflow() -> None:
    assert compare(np.float64([1e300, 1]), np.float64([1e300, 1])).rel_rms == 0
    assert compare(np.float32([-3.4e38, 1]), np.float32([-3.3e38, 1])).rel_rms == pytest.approx(0.0294, rel=0.01)


def test_shapes() -> None:
    error = compare(np.zeros((1, 3)), np.zeros((3, 1)))
    assert not error.shape_ok
    assert error.rel_rms == float("inf")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("float64", "float32", True),
        ("float16", "float32", True),
        ("int64", "float32", False),
        ("int64", "int32", False),
    ],
)
def test_dtypes(one: str, other: str, same: bool) -> None:
    assert compare(np.ones(2, one), np.ones(2, other)).dtype_ok is same


def test_bool_complex_and_empty() -> None:
    assert compare(np.array([True, False]), np.array([True, True])).max_abs == 1
    assert compare(np.array([3 + 4j]), np.array([3 + 4j])).cosine == pytest.approx(1)
    assert compare(np.zeros((0, 3)), np.zeros((0, 3))).rel_rms == 0


def test_it_reads_well() -> None:
    assert str(compare(np.float32([1]), np.float32([1.5]))) == "rel RMS 0.5, max |error| 0.5, cosine 1.000000"
    assert str(compare(np.float32([1]), np.float32([[1]]))) == "wrong shape"


NUMBERS = st.one_of(
    st.floats(width=32), st.floats(-10, 10, width=32), st.sampled_from([0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-45])
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12), st.integers(1, 5))
def test_blocks_add_up_to_the_whole(pairs: list[tuple[float, float]], block: int) -> None:
    want, got = (np.array([pair[side] for pair in pairs], np.float32) for side in (0, 1))
    whole = compare(want, got)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor_error, "_BLOCK", block)
        parts = compare(want, got)
    for name, value in asdict(whole).items():
        assert asdict(parts)[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
