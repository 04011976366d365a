"""Feeds are made late, once, and for a part of a model from the values the whole model gives it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

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


def test_inputs_a_model_does_not_take_are_made_tamer_and_nothing_learned_of_the_first_is_used() -> None:
    """A row below 0 there is not: of normal numbers the Gather takes none."""
    options = ConvertOptions(verify_feeds=2)
    body = "a = Mul (x, far) i = Cast <to = 7> (a) y = Gather (rows, i) z = Tanh (y)"
    graph = parse_graph(f"g (float[1,64] x) => (float[1,64,4] z) {{ {body} }}")
    rows = np.arange(40, dtype=np.float32).reshape(10, 4)
    graph.initializer.extend([numpy_helper.from_array(np.float32(9), "far"), numpy_helper.from_array(rows, "rows")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    whole = prepare(onnx_graph.load(proto), options).model
    feeds = RandomFeeds(whole, options)
    first = feeds.of(extract(whole, ["Mul_a"], ["x"], ["a"]), ["x"])
    assert min(feed["x"].min() for feed in first) < 0
    feeds.learn(["x"], [{"a": feed["x"] * 9} for feed in first])
    assert min(feed["x"].min() for feed in feeds.ordinary()) >= 0
    for given, found in zip(feeds.ordinary(), feeds.outputs(), strict=True):
        np.testing.assert_allclose(found["z"], np.tanh(rows[(given["x"] * 9).astype(int)]), rtol=1e-5)
    feeds.learn(["x"], [{"a": feed["x"]} for feed in first])  # too late: these are not the inputs any more
    assert feeds.outputs()[0]["z"].shape == (1, 64, 4)
