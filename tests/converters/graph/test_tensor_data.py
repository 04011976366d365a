"""Constants that hold something else than their dimensions say."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.validate import validate_and_sort
from tests.helpers.onnx_models import build, random


def using(tensor: TensorProto, where: str = "initializer") -> onnx.ModelProto:
    model = build([helper.make_node("Shape", ["x"], ["y"])], {"x": random(1)}, ["y"])
    if where == "initializer":
        model.graph.initializer.append(tensor)
    elif where == "constant":
        model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))
    else:
        inner = helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "b", [], [], [tensor])
        model.graph.node.append(helper.make_node("If", ["x"], ["c"], then_branch=inner, else_branch=inner))
    return model


@pytest.mark.parametrize("where", ["initializer", "constant", "body"])
@pytest.mark.parametrize("raw", [True, False])
def test_dimensions_without_data_are_refused_before_there_is_room_for_them(where: str, raw: bool) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40])
    if raw:
        tensor.raw_data = b"1234"
    with pytest.raises(ModelError, match=r"constant w of shape \[1099511627776\] holds"):
        onnx_graph.load(using(tensor, where))


@pytest.mark.parametrize("dims", [[-4], [5], [2], [1 << 62, 1 << 62], [1 << 32, 0, -1]])
def test_other_dimensions_than_data(dims: list[int]) -> None:
    tensor = TensorProto(name="w\x1b", data_type=TensorProto.FLOAT, dims=dims, raw_data=bytes(16))
    with pytest.raises(ModelError, match=r"constant w\\x1b"):
        onnx_graph.load(using(tensor))


@pytest.mark.parametrize("name", ["FLOAT", "FLOAT16", "BFLOAT16", "INT8", "BOOL", "INT64", "UINT64", "DOUBLE", "INT4"])
@pytest.mark.parametrize("raw", [True, False])
def test_every_way_to_write_a_tensor_is_right(name: str, raw: bool) -> None:
    kind = TensorProto.DataType.Value(name)
    values = np.ones(3).astype(helper.tensor_dtype_to_np_dtype(kind))
    tensor = numpy_helper.from_array(values, "w") if raw else helper.make_tensor("w", kind, [3], values.tolist())
    onnx_graph.load(using(tensor))


def test_strings_complex_numbers_and_nothing() -> None:
    for tensor in (
        helper.make_tensor("w", TensorProto.STRING, [2], ["a", "b"]),
        helper.make_tensor("w", TensorProto.COMPLEX64, [2], [1j, 2]),
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[0, 1 << 62]),
    ):
        onnx_graph.load(using(tensor))


@pytest.mark.timeout(20)
def test_an_equation_in_which_inference_would_look_for_an_end_for_ever() -> None:
    model = build([helper.make_node("Einsum", ["x", "x"], ["y"], equation="....,i")], {"x": random(1)}, ["y"])
    with pytest.raises(ModelError, match="four dots"):
        validate_and_sort(onnx_graph.load(model))
