"""Large weights apart from their model: sizes and bytes, what is appended to a model, weights as inputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.lower.lower import lower
from ort_rknn_converters.onnx_file.weights import (
    LARGE,
    LargeWeights,
    is_large,
    is_same,
    raw_bytes,
    size_of,
    weights_as_inputs,
)
from ort_rknn_converters.targets import find_target
from tests.helpers.large_weights import constants, large


def test_what_is_appended_belongs_to_the_model() -> None:
    model = large()
    skeleton, (weight, bias) = onnx.ModelProto.FromString(model.SerializeToString()), model.graph.initializer
    del skeleton.graph.initializer[:]
    weights = LargeWeights(tuple((tensor.name, ir.serde.deserialize_tensor(tensor)) for tensor in (weight, bias)))
    read = onnx.load_model_from_string(b"".join([skeleton.SerializeToString(), *weights]))
    assert read == model
    assert list(weights.protos()) == [weight, bias]
    assert weights.size == size_of(weight) + size_of(bias)


@pytest.mark.parametrize("kind", ["FLOAT", "BOOL", "INT4", "BFLOAT16", "FLOAT8E4M3FN", "COMPLEX64"])
def test_sizes_and_bytes_are_those_of_onnx(kind: str) -> None:
    dtype = onnx.TensorProto.DataType.Value(kind)
    values = [1, 0, 1, 1, 0, 0, 1]
    tensor = numpy_helper.from_array(np.array(values, helper.tensor_dtype_to_np_dtype(dtype)), "t")
    assert size_of(tensor) == len(tensor.raw_data)
    assert raw_bytes(ir.serde.deserialize_tensor(tensor)) == tensor.raw_data


def test_same_is_said_of_type_shape_and_content() -> None:
    zeros = np.zeros((3, LARGE), np.uint8)
    other = zeros.copy()
    other[2, LARGE - 1] = 1
    tensors = [ir.Tensor(array) for array in (zeros, zeros.copy(), zeros.view(np.int8), zeros.reshape(-1), other)]
    assert [is_same(tensors[0], tensor) for tensor in tensors] == [True, True, False, False, False]


def test_lowering_shares_large_weights() -> None:
    model = large()
    lowered = lower(model, find_target("rk3588"))
    assert not any(map(is_large, lowered.model.skeleton.graph.initializer))
    assert lowered.model.weights.size == LARGE
    whole = onnx.load_model_from_string(b"".join([lowered.model.skeleton.SerializeToString(), *lowered.model.weights]))
    assert constants(whole) == constants(lowered.model.whole()) == constants(model)
    assert [value.name for value in whole.graph.input] == ["x"]


ARRAY = np.ones((4, LARGE // 16), np.float32)


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
            helper.make_tensor_value_info("given", TensorProto.FLOAT, ARRAY.shape),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ARRAY.shape)],
        [
            numpy_helper.from_array(ARRAY, "w"),
            numpy_helper.from_array(np.ones((4, LARGE // 8), np.float16), "half"),
            numpy_helper.from_array(np.ones(8, np.float32), "b"),
            numpy_helper.from_array(ARRAY, "given"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def names(values: object) -> list[str]:
    return [value.name for value in values]  # type: ignore[attr-defined]


def taken(copied: tuple[onnx.ModelProto, LargeWeights]) -> list[str]:
    return [name for name, _ in copied[1].tensors]


def test_large_weights_become_inputs_and_defaults_stay(model: onnx.ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    skeleton, weights = weights_as_inputs(model)
    assert names(skeleton.graph.input) == ["x", "given", "w", "half"]
    assert names(skeleton.graph.initializer) == ["b", "given"]
    assert [name for name, _ in weights.tensors] == ["w", "half"]
    assert skeleton.graph.node == model.graph.node
    assert skeleton.graph.output == model.graph.output
    assert model.SerializeToString(deterministic=True) == before


def test_inputs_of_some_types_and_from_some_size_on(model: onnx.ModelProto) -> None:
    assert taken(weights_as_inputs(model, types=(TensorProto.FLOAT,))) == ["w"]
    assert taken(weights_as_inputs(model, least=LARGE + 1)) == []
    assert taken(weights_as_inputs(model, least=1)) == ["w", "half", "b"]


def test_an_old_model_becomes_one_whose_weights_need_not_be_inputs(model: onnx.ModelProto) -> None:
    model.ir_version = 3
    assert weights_as_inputs(model)[0].ir_version == 4
