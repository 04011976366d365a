"""Feeds: the quick way takes the ordinary, everything else is judged and converted; what comes out can be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ort_rknn.ort_conventions import numpy_dtype
from ort_rknn.sessions.feed import FeedChecker, InputSpec, ValueConverter
from tests.helpers.ort_models import model
from tests.helpers.versions import needs_onnxruntime

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)


class StubSession:
    """Counts how often onnxruntime was asked."""

    def __init__(self, name: str = "two") -> None:
        self.native = onnxruntime.InferenceSession(model(name), providers=["CPUExecutionProvider"])._sess
        self.asked = 0

    def checker(self) -> FeedChecker:
        native = self.native
        return FeedChecker(native.inputs_meta, native.outputs_meta, native.overridable_initializers)

    def __call__(self, names: Any, feed: Any, run_options: Any) -> None:
        self.asked += 1
        self.native.run(names, feed, run_options)


def test_the_ordinary_feed_is_not_judged() -> None:
    stub = StubSession()
    checked = stub.checker().check(["Y"], {"A": A, "B": A}, None, stub)
    assert stub.asked == 0
    assert checked.feed["A"] is A
    assert checked.outputs == ["Y"]


@pytest.mark.parametrize(
    "value",
    [A.tolist(), np.asfortranarray(A), A[::-1], A.astype(">f4"), np.ma.masked_array(A), A.view(np.matrix)],
    ids=["list", "fortran", "reversed", "big_endian", "masked", "matrix"],
)
def test_what_comes_out_is_plain(value: Any) -> None:
    stub = StubSession()
    array = stub.checker().check(["Y"], {"A": value, "B": A}, None, stub).feed["A"]
    assert type(array) is np.ndarray
    assert array.dtype == np.float32
    assert array.dtype.isnative
    assert array.flags.c_contiguous
    assert np.array_equal(array, np.asarray(value, np.float32))


def test_run_options_are_always_judged() -> None:
    stub = StubSession()
    stub.checker().check(["Y"], {"A": A, "B": A}, onnxruntime.RunOptions(), stub)
    assert stub.asked == 1


def test_big_endian_is_converted_where_onnxruntime_misreads() -> None:
    stub = StubSession("int64")
    value = np.array([1, 2], ">i8")
    assert stub.checker().check(["Y"], {"X": value}, None, stub).feed["X"].tolist() == [1, 2]


def test_an_overridden_initializer_is_marked() -> None:
    stub = StubSession("override")
    weights = np.eye(2, dtype=np.float32)
    assert not stub.checker().check(["Y"], {"X": A}, None, stub).only_whole
    assert stub.checker().check(["Y"], {"X": A, "W": weights}, None, stub).only_whole


@needs_onnxruntime("1.24", "names may come from a generator")
def test_a_generator_of_names_is_read_once() -> None:
    stub = StubSession()
    names = (name for name in ("K", "Y"))
    assert stub.checker().check(names, {"A": A, "B": A}, None, stub).outputs == ["K", "Y"]


@settings(max_examples=50)
@given(
    st.sampled_from([np.float32, np.float64, np.int32]),
    st.lists(st.integers(0, 4), min_size=0, max_size=3).map(tuple),
)
def test_quick_and_slow_way_agree_with_onnxruntime(dtype: Any, shape: tuple[int, ...]) -> None:
    stub = StubSession()
    value = np.ones(shape, dtype)
    feed = {"A": value, "B": A}
    try:
        stub.native.run(["Y"], feed, None)
        wanted = None
    except Exception as error:
        wanted = (type(error), str(error))
    try:
        stub.checker().check(["Y"], feed, None, stub)
        got = None
    except Exception as error:
        got = (type(error), str(error))
    assert got == wanted


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("tensor(int64)", [[1, 2]]),
        ("tensor(float16)", [0.5]),
        ("tensor(bool)", [True]),
        ("tensor(string)", ["a", "b"]),
        ("seq(tensor(float))", [np.float32([1, 2])]),
        ("optional(tensor(float))", np.float32([1])),
        ("optional(seq(tensor(int64)))", [np.int64([1])]),
    ],
)
def test_echo_converts(kind: str, value: Any) -> None:
    echo = ValueConverter({"x": InputSpec(kind, numpy_dtype(kind), None)})
    result = echo.convert({"x": value})["x"]
    if kind.startswith("tensor"):
        assert isinstance(result, np.ndarray)
        assert result.tolist() == list(value)
    else:
        assert np.array_equal(
            result[0] if isinstance(result, list) else result, value[0] if isinstance(value, list) else value
        )


def test_echo_refuses_unknown_types() -> None:
    with pytest.raises(ValueError, match="no ONNX type is written"):
        ValueConverter({"x": InputSpec("nonsense", None, None)}).convert({"x": 1})
