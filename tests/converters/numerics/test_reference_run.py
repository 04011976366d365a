"""The reference run: right answers, and the largest magnitude of every tensor on the way."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.numerics.reference_run import run_measured
from tests.helpers.large_weights import large


def test_weights_that_are_fed_give_the_same_answer() -> None:
    model = onnx.shape_inference.infer_shapes(large())
    before = model.SerializeToString()
    feeds = [{"x": np.full((2, 512), value, np.float32)} for value in (0.5, -1.0)]
    answers, peaks = run_measured(model, feeds)
    session = ort.InferenceSession(before)
    wanted = [session.run(None, feed)[0] for feed in feeds]
    for answer, want in zip(answers, wanted, strict=True):
        assert list(answer) == ["y"]
        np.testing.assert_allclose(answer["y"], want, rtol=1e-4, atol=1e-3)
    assert peaks["y"] == pytest.approx(max(float(np.abs(want).max()) for want in wanted))
    assert set(peaks) == {"m", "y"}
    assert model.SerializeToString() == before, "the model is left as it is"


def test_not_a_number_counts_as_infinite() -> None:
    graph = helper.make_graph(
        [helper.make_node("Sqrt", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    _, peaks = run_measured(model, [{"x": np.array([-1], np.float16)}])
    assert peaks == {"y": float("inf")}


def test_what_onnxruntime_cannot_run() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(large())
    model.graph.node[0].op_type = "NoSuchOp"
    with pytest.raises(ModelError, match="ONNX Runtime cannot run the segment"):
        run_measured(model, [])
