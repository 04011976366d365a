"""One model run exactly and with some nodes rounded: as the simulator rounds, weights included."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.numerics.fp16_rounding import round_to_fp16
from ort_rknn_converters.numerics.whole_run import WholeRun
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.prepare import prepare

_RANDOM = np.random.default_rng(0)


@pytest.fixture
def proto() -> onnx.ModelProto:
    graph = parse_graph(
        "g (float[4,256] x) => (float[4,256] y) "
        "{ [a] a = MatMul (x, large) [b] b = Mul (a, small) [c] c = Tanh (b) [d] y = MatMul (c, large) }"
    )
    graph.initializer.append(numpy_helper.from_array(_RANDOM.normal(size=(256, 256)).astype(np.float32) / 16, "large"))
    graph.initializer.append(numpy_helper.from_array(_RANDOM.normal(size=(4, 256)).astype(np.float32), "small"))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def run(proto: onnx.ModelProto) -> WholeRun:
    return WholeRun(prepare(onnx_graph.load(proto), ConvertOptions()).model)


X = {"x": _RANDOM.normal(size=(4, 256)).astype(np.float32)}


def test_large_weights_are_fed_and_not_copied(run: WholeRun) -> None:
    assert list(run.weights) == ["large"]
    assert run.outputs == ("y",)
    assert [set(feed) for feed in run.feeds(2, 0)] == [{"x"}, {"x"}]


def test_exact_is_what_onnxruntime_gives(run: WholeRun, proto: onnx.ModelProto) -> None:
    [found] = run.exact([X])
    wanted = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, X)[0]
    np.testing.assert_allclose(found["y"], wanted, rtol=1e-4, atol=1e-5)
    assert set(run.exact([X], ["b", "y"])[0]) == {"b", "y"}


def test_known_values_are_not_computed_again(run: WholeRun) -> None:
    zeros = np.zeros((4, 256), np.float32)
    [found] = run.exact([X], ["y", "c"], [{"c": zeros}])
    assert found["c"] is zeros
    assert not found["y"].any()


def test_all_rounded_is_the_simulators_rule(run: WholeRun, proto: onnx.ModelProto) -> None:
    [found] = run.rounded("abcd", [X])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    rounded = onnxruntime.InferenceSession(round_to_fp16(proto).SerializeToString(), options)
    wanted = rounded.run(None, X)[0]
    # Sums are taken in another order where weights are fed: now and then the last bit of fp16 is another.
    assert np.mean(found["y"] == wanted) > 0.9
    np.testing.assert_allclose(found["y"], wanted, rtol=0, atol=1e-3)


def test_what_is_not_rounded_keeps_its_digits_and_its_weights(run: WholeRun) -> None:
    [exact], [none], [first] = run.exact([X]), run.rounded("", [X]), run.rounded("a", [X])
    np.testing.assert_allclose(none["y"], exact["y"], rtol=1e-4, atol=1e-5)
    off = np.abs(first["y"] - none["y"]).max()
    assert 1e-5 < off < 1e-2
    assert np.abs(run.rounded("abcd", [X])[0]["y"] - none["y"]).max() > off / 4


def test_what_cannot_be_run_is_an_error_in_words(run: WholeRun) -> None:
    with pytest.raises(ModelError, match="cannot run the whole model on random inputs"):
        run.exact([{"x": np.zeros((3, 3), np.float32)}])
