"""Random feeds a model can be run on."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from onnx.parser import parse_graph

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.numerics.random_inputs import boundary_values, feeds_for


def model(text: str) -> onnx.ModelProto:
    return helper.make_model(parse_graph(text), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_dtypes_and_shapes() -> None:
    part = model(
        "g (float[2,3] a, float16[1] b, double c, bool[4] d, int32[2] e, uint8[2] f) => (float[2,3] y) { y = Relu (a) }"
    )
    for feed in feeds_for(part, 5):
        ort.InferenceSession(part.SerializeToString()).run(None, feed)
        assert {name: array.dtype.name for name, array in feed.items()} == {
            "a": "float32", "b": "float16", "c": "float64", "d": "bool", "e": "int32", "f": "uint8"
        }  # fmt: skip
        assert set(feed["e"]) <= {0, 1}


def test_equal_seeds_give_equal_feeds() -> None:
    part = model("g (float[8] x) => (float[8] y) { y = Relu (x) }")
    one, two, other = feeds_for(part, 2, 1), feeds_for(part, 2, 1), feeds_for(part, 2, 2)
    np.testing.assert_array_equal(one[1]["x"], two[1]["x"])
    assert not np.array_equal(one[0]["x"], one[1]["x"])
    assert not np.array_equal(one[0]["x"], other[0]["x"])


def test_images_are_seen_as_such() -> None:
    first, second = feeds_for(model("g (float[1,3,9,9] x) => (float[1,3,9,9] y) { y = Relu (x) }"), 2)
    assert first["x"].min() >= 0
    assert first["x"].max() <= 1
    assert second["x"].min() < 0


@pytest.mark.parametrize(
    ("body", "bound"),
    [
        ("y = Gather <axis = 1> (t, i)", 7),
        ("c = Cast <to = 7> (i) y = Gather <axis = 1> (t, c)", 7),
        ("y = GatherND (t, i)", 5),
        ("y = Gather (i, i)", 1),
    ],
)
def test_indices_stay_inside(body: str, bound: int) -> None:
    weights = ", ".join(["0"] * 35)
    part = model(f"g (int64[1,2] i) => (float[a] y) <float[5,7] t = {{{weights}}}> {{ {body} }}")
    found = np.concatenate([feed["i"].ravel() for feed in feeds_for(part, 50)])
    assert (found.min(), found.max()) == (0, bound - 1)


@pytest.mark.parametrize(
    ("body", "bound"),
    [
        ("e = Unsqueeze (i, axes) y = Equal (e, all)", 5),
        ("e = Unsqueeze (i, axes) y = Equal (all, e)", 5),
        ("y = Equal (i, pad)", 2),
        ("y = OneHot (i, pad, values)", 7),
    ],
)
def test_categories_are_all_seen(body: str, bound: int) -> None:
    constants = "<int64[1] axes = {2}, int64[5] all = {0, 1, 2, 3, 4}, int64[1] pad = {7}, float[2] values = {0, 1}>"
    part = model(f"g (int64[1,9] i) => (bool[a,b,c] y) {constants} {{ {body} }}")
    found = np.concatenate([feed["i"].ravel() for feed in feeds_for(part, 50)])
    assert (found.min(), found.max()) == (0, bound - 1)


def test_categories_are_padded_from_the_second_feed_on() -> None:
    part = model(
        "g (int64[2,128] i) => (bool[a,b,c] y) <int64[1] axes = {2}, int64[3] all = {0, 1, 2}> "
        "{ e = Unsqueeze (i, axes) y = Equal (e, all) }"
    )
    feeds = [feed["i"] for feed in feeds_for(part, 3)]
    assert [set(feed[:, 2:].ravel().tolist()) for feed in feeds] == [{0, 1, 2}, {2}, {0}]
    assert any(set(feed[:, :2].ravel().tolist()) - {pad} for feed, pad in zip(feeds[1:], (2, 0), strict=True))


def test_unknown_dimensions_are_one() -> None:
    assert feeds_for(model("g (float[N,3] x) => (float[N,3] y) { y = Relu (x) }"), 1)[0]["x"].shape == (1, 3)


def test_no_feeds_for_strings_and_sequences() -> None:
    with pytest.raises(ModelError, match="no random values"):
        feeds_for(model("g (string[1] x) => (string[1] y) { y = Identity (x) }"), 1)
    with pytest.raises(ModelError, match="no random values"):
        feeds_for(model("g (seq(float[1]) x) => (seq(float[1]) y) { y = Identity (x) }"), 1)


class TestBoundaryValues:
    part = model("g (float[2] x, int64[1] n) => (float[2] z) { y = Neg (x) z = Relu (y) }")

    def test_inside_values_and_inputs(self) -> None:
        feed = {"x": np.float32([1, -1]), "n": np.int64([3])}
        (found,) = boundary_values(self.part, ["y", "x"], [feed]) or ()
        np.testing.assert_array_equal(found["y"], [-1, 1])
        np.testing.assert_array_equal(found["x"], [1, -1])

    def test_inputs_only_need_no_run(self) -> None:
        feed = {"x": np.float32([1, -1])}
        assert boundary_values(self.part, ["x"], [feed]) is not None
        assert boundary_values(self.part, ["y"], [feed]) is None

    def test_values_that_are_not_finite_are_no_feeds(self) -> None:
        assert boundary_values(self.part, ["y"], [{"x": np.float32([np.inf, 1]), "n": np.int64([3])}]) is None
