"""The rounding rule, against a calculation by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.numerics.fp16_rounding import round_to_fp16
from tests.helpers.segment_models import cnn, gate_model

RNG = np.random.default_rng(5)


def half(array: Any) -> Any:
    with np.errstate(over="ignore"):
        return np.asarray(array, np.float32).astype(np.float16).astype(np.float32)


def weights(model: onnx.ModelProto) -> dict[str, Any]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def run(model: onnx.ModelProto, feed: dict[str, Any], level: int = 99) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel(level)
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feed)


@pytest.mark.parametrize("level", [0, 1, 2, 99])
def test_every_node_is_rounded_at_every_optimization_level(level: int) -> None:
    model = gate_model()
    x = RNG.normal(size=(1, 4)).astype(np.float32)
    w = weights(model)
    a = half(x @ half(w["w"]) + w["b"])
    y = half(np.maximum(a, 0))
    got = run(round_to_fp16(model), {"x": x}, level)
    np.testing.assert_array_equal(got[0], y)
    assert got[1].dtype == np.int64
    assert got[1].tolist() == [int(y.argmax())]


def test_weights_are_rounded_but_biases_and_scalars_are_not() -> None:
    rounded = weights(round_to_fp16(cnn()))
    for name, array in weights(cnn()).items():
        expected = half(array) if array.ndim > 1 else array
        np.testing.assert_array_equal(rounded[name], expected)


def test_the_model_given_is_left_alone() -> None:
    model = cnn()
    before = model.SerializeToString()
    round_to_fp16(model)
    assert model.SerializeToString() == before


def test_inputs_are_not_rounded_and_overflow_is_infinite() -> None:
    node = helper.make_node("Mul", ["x", "c"], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
        [numpy_helper.from_array(np.float32(4097.0), "c")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = np.array([1.0001, 20.0, 1e-10], np.float32)
    [y] = run(round_to_fp16(model), {"x": x})
    np.testing.assert_array_equal(y, half(x * np.float32(4097)))
    assert np.isinf(y[1])
    assert y[2] > 0, "subnormals are kept"


def test_double_and_integer_values() -> None:
    nodes = [
        helper.make_node("Add", ["x", "x"], ["y"]),
        helper.make_node("Add", ["i", "i"], ["j"]),
        helper.make_node("Dropout", ["x"], ["p", ""]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.DOUBLE, [2]),
            helper.make_tensor_value_info("i", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.DOUBLE, [2]),
            helper.make_tensor_value_info("j", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("p", TensorProto.DOUBLE, [2]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    x = np.array([0.1, 3.14159], np.float64)
    y, j, _ = run(round_to_fp16(model), {"x": x, "i": np.array([2**40 + 1])})
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, (x + x).astype(np.float16).astype(np.float64))
    assert j.tolist() == [2 * (2**40 + 1)]


def test_constants_inside_the_graph_stay_as_they_are() -> None:
    value = numpy_helper.from_array(np.array([0.1, 0.2], np.float32))
    nodes = [helper.make_node("Constant", [], ["c"], value=value), helper.make_node("Add", ["x", "c"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = np.array([1.0, 2.0], np.float32)
    [y] = run(round_to_fp16(model), {"x": x})
    np.testing.assert_array_equal(y, half(x + np.array([0.1, 0.2], np.float32)))
