from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.infer import infer
from ort_rknn_converters.numerics import seen_shapes
from ort_rknn_converters.numerics.seen_shapes import see_shapes
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.prepare import prepare
from tests.helpers.onnx_models import build, check_prepared, random


def spectrum(dims: list[int | str]) -> onnx.ModelProto:
    """A short-time Fourier transform of 33 bins, of which ONNX's inference says 64, and a product behind it."""
    constants = {"hop": np.array(16), "window": np.hanning(64).astype(np.float32), "bank": random(33, 8)}
    nodes = [
        helper.make_node("STFT", ["x", "hop", "window"], ["s"]),
        helper.make_node("ReduceSumSquare", ["s"], ["p"], axes=[-1], keepdims=0),
        helper.make_node("MatMul", ["p", "bank"], ["y"]),
    ]
    return build(nodes, {"x": (TensorProto.FLOAT, dims)}, ["y"], constants, opset=17)


@pytest.mark.parametrize("dims", [["n", 640], [2, 640]])
def test_shapes_that_inference_gets_wrong(dims: list[int | str]) -> None:
    prepared = check_prepared(spectrum(dims), {"x": random(2, 640)}, shapes={"x": (2, 640)}, rtol=1e-4)
    made = {node.op_type: node.outputs[0] for node in prepared.graph}
    assert onnx_graph.static_shape(made["STFT"]) == (2, 37, 33, 2)
    assert onnx_graph.static_shape(made["MatMul"]) == (2, 37, 8)


def test_arithmetic_that_is_no_shape() -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["lengths", "one"], ["u"]),
        helper.make_node("Sub", ["u", "k"], ["i"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    inputs = {"x": (TensorProto.FLOAT, ["n", 8]), "lengths": (TensorProto.INT64, ["n"])}
    made = build(nodes, inputs, ["y", "i"], {"one": np.array([1]), "k": np.arange(5), "w": random(8, 8)}, opset=17)
    check_prepared(made, {"x": random(2, 8), "lengths": np.array([7, 9])}, shapes={"x": (2, 8), "lengths": (2,)})


def test_what_onnxruntime_refuses_is_refused() -> None:
    made = build(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": (TensorProto.FLOAT, [2, "k"])},
        ["y"],
        {"w": random(8, 4)},
    )
    with pytest.raises(ModelError, match="the shapes given contradict the model"):
        prepare(onnx_graph.load(made), ConvertOptions(shapes={"x": (2, 6)}))


def test_shapes_that_follow_from_data_are_not_taken_from_a_run() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["z"])]
    loaded = onnx_graph.load(build(nodes, {"x": (TensorProto.BOOL, [100])}, ["z"], opset=17))
    infer(loaded)
    see_shapes(loaded)
    assert onnx_graph.static_shape(loaded.graph.outputs[0]) is None


def test_a_run_that_takes_too_long_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_shapes, "QUICK_S", 0.0)
    loaded = onnx_graph.load(spectrum([2, 640]))
    assert see_shapes(loaded) == ""
