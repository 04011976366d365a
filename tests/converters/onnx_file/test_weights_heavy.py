"""Large weights kept apart: their sizes and bytes, and what is appended to a model."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from ort_rknn_converters.lower.lower import lower
from ort_rknn_converters.onnx_file.weights_heavy import HEAVY, Heavy, is_heavy, is_same, raw, size_of
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
