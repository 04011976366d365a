"""Large weights apart from their model: sizes and bytes, what is appended to a model, weights as inputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.lower.lower import lower
from ort_rknn_converters.onnx_file.weights import HEAVY, PARAMETER, Heavy, is_heavy, is_same, lightened, raw, size_of
from ort_rknn_converters.targets import find_target
from tests.helpers.large_weights import constants, large


def test_what_is_appended_belongs_to_the_model() -> None:
    model = large()
    light, (weight, bias) = onnx.ModelProto.FromString(model.SerializeToString()), model.graph.initializer
    del light.graph.initializer[:]
    heavy = Heavy(tuple((tensor.name, ir.serde.deserialize_tensor(tensor)) for tensor in (weight, bias)))
    read = onnx.load_model_from_string(b"".join([light.SerializeToString(), *heavy]))
    assert read == model
    assert list(heavy.protos()) == [weight, bias]
    assert heavy.size == size_of(weight) + size_of(bias)


@pytest.mark.parametrize("kind", ["FLOAT", "BOOL", "INT4", "BFLOAT16", "FLOAT8E4M3FN", "COMPLEX64"])
def test_sizes_and_bytes_are_those_of_onnx(kind: str) -> None:
    dtype = onnx.TensorProto.DataType.Value(kind)
    values = [1, 0, 1, 1, 0, 0, 1]
    tensor = numpy_helper.from_array(np.array(values, helper.tensor_dtype_to_np_dtype(dtype)), "t")
    assert size_of(tensor) == len(tensor.raw_data)
    assert raw(ir.serde.deserialize_tensor(tensor)) == tensor.raw_data


def test_same_is_said_of_type_shape_and_content() -> None:
    zeros = np.zeros((3, HEAVY), np.uint8)
    other = zeros.copy()
    other[2, HEAVY - 1] = 1
    tensors = [ir.Tensor(array) for array in (zeros, zeros.copy(), zeros.view(np.int8), zeros.reshape(-1), other)]
    assert [is_same(tensors[0], tensor) for tensor in tensors] == [True, True, False, False, False]


def test_lowering_shares_large_weights() -> None:
    model = large()
    lowered = lower(model, find_target("rk3588"))
    assert not any(map(is_heavy, lowered.light.graph.initializer))
    assert lowered.heavy.size == HEAVY
    whole = onnx.load_model_from_string(b"".join([lowered.light.SerializeToString(), *lowered.heavy]))
    assert constants(whole) == constants(lowered.model) == constants(model)
    assert [value.name for value in whole.graph.input] == ["x"]


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


def test_inputs_of_some_types_and_from_some_size_on(model: onnx.ModelProto) -> None:
    assert names(lightened(model, types=(TensorProto.FLOAT,))[1]) == ["w"]
    assert names(lightened(model, least=PARAMETER + 1)[1]) == []
    assert names(lightened(model, least=1)[1]) == ["w", "half", "b"]


def test_an_old_model_becomes_one_whose_weights_need_not_be_inputs(model: onnx.ModelProto) -> None:
    model.ir_version = 3
    assert lightened(model)[0].ir_version == 4
