"""Copies of models whose large weights are inputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.onnx_file.weights_light import PARAMETER, lightened

LARGE = np.ones((4, PARAMETER // 16), np.float32)


@pytest.fixture
def model() -> onnx.ModelProto:
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Cast", ["half"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Sum", ["h", "f", "b", "given"], ["y"]),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]),
            helper.make_tensor_value_info("given", TensorProto.FLOAT, LARGE.shape),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, LARGE.shape)],
        [
            numpy_helper.from_array(LARGE, "w"),
            numpy_helper.from_array(np.ones((4, PARAMETER // 8), np.float16), "half"),
            numpy_helper.from_array(np.ones(8, np.float32), "b"),
            numpy_helper.from_array(LARGE, "given"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def names(values: object) -> list[str]:
    return [value.name for value in values]  # type: ignore[attr-defined]


def test_large_weights_become_inputs_and_defaults_stay(model: onnx.ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    light, weights = lightened(model)
    assert names(light.graph.input) == ["x", "given", "w", "half"]
    assert names(light.graph.initializer) == ["b", "given"]
    assert names(weights) == ["w", "half"]
    assert light.graph.node == model.graph.node
    assert light.graph.output == model.graph.output
    assert model.SerializeToString(deterministic=True) == before


def test_of_some_types_and_from_some_size_on(model: onnx.ModelProto) -> None:
    assert names(lightened(model, types=(TensorProto.FLOAT,))[1]) == ["w"]
    assert names(lightened(model, least=PARAMETER + 1)[1]) == []
    assert names(lightened(model, least=1)[1]) == ["w", "half", "b"]


def test_an_old_model_becomes_one_whose_weights_need_not_be_inputs(model: onnx.ModelProto) -> None:
    model.ir_version = 3
    assert lightened(model)[0].ir_version == 4
