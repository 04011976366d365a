"""Feeds are made late, once, and for a part of a model from the values the whole model gives it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ort_rknn_converters.compile.segment_inputs import LazyFeeds, RandomFeeds
from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.extract import extract
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.prepare import prepare
from tests.helpers.conversions import model
from tests.helpers.threads import together


def test_late_feeds_are_made_once_by_whoever_looks_first() -> None:
    made, seen, lock = [], [], threading.Lock()

    def make() -> list[dict[str, np.ndarray]]:
        made.append(True)
        return [{"x": np.ones(2)}, {"x": np.zeros(2)}]

    feeds = LazyFeeds(2, make)
    assert (len(feeds), bool(feeds), bool(LazyFeeds(0, make)), made) == (2, True, False, [])

    def look(_: int) -> None:
        with lock:
            seen.append([feed["x"].sum() for feed in feeds])

    together(look, range(4))
    assert (seen, made) == ([[2, 0]] * 4, [True])
    assert [feed["x"].sum() for feed in feeds[1:]] == [0]


def test_feeds_that_cannot_be_made_fail_for_all_who_ask() -> None:
    def make() -> list[dict[str, np.ndarray]]:
        raise ModelError("no values")

    feeds = LazyFeeds(1, make)
    for _ in range(2):
        with pytest.raises(ModelError, match="no values"):
            feeds[0]


def test_a_part_gets_what_the_model_gives_it() -> None:
    options = ConvertOptions(verify_feeds=3)
    whole = prepare(onnx_graph.load(model("a = Abs (x) b = Asinh (a) y = Sigmoid (b)")), options).model
    feeds = RandomFeeds(whole, options)
    last = extract(whole, ["Sigmoid_y"], ["b"], ["y"])
    first = extract(whole, ["Abs_a"], ["x"], ["a"])
    own = feeds.of(last, ["b"])
    assert min(feed["b"].min() for feed in own) < 0  # nobody said that b would be asked for
    feeds.expect(["b"])
    assert len(feeds.of(last, ["b"])) == 3
    for given, made in zip(feeds.of(first, ["x"]), feeds.of(last, ["b"]), strict=True):
        np.testing.assert_allclose(made["b"], np.arcsinh(np.abs(given["x"])), rtol=1e-5)
