"""What ONNX's messages say of tensors."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from onnx import TensorProto
from onnx.parser import parse_graph

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.onnx_file.tensor_types import element_type, fixed_shapes, raw_constant, type_string


@pytest.mark.parametrize("kind", list(ir.DataType), ids=str)
def test_every_element_type_has_one_spelling(kind: ir.DataType) -> None:
    text = type_string(kind.value)
    assert onnx_graph.type_string(kind) == text
    assert element_type(text) == kind.value


def test_what_is_no_tensor_has_no_element_type() -> None:
    with pytest.raises(ModelError, match=r"'seq\(tensor\(float\)\)' is not a tensor type"):
        element_type("seq(tensor(float))")


def test_shapes_are_known_where_all_dimensions_are_numbers() -> None:
    parsed = parse_graph("g (float[2,3] a, float[N,3] b, float[] r, float c) => (float[4] y) { y = Sum (a, b, c) }")
    parsed.input[2].type.tensor_type.ClearField("shape")
    assert fixed_shapes(parsed) == {"a": (2, 3), "c": (), "y": (4,)}


def test_constants_of_equal_content_are_equal() -> None:
    listed = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], float_data=[1, 2], doc_string="gone")
    raw = raw_constant(listed)
    assert raw == raw_constant(raw)
    assert (raw.name, len(raw.raw_data), raw.doc_string) == ("w", 8, "")
    text = TensorProto(name="s", data_type=TensorProto.STRING, dims=[1], string_data=[b"a"])
    assert raw_constant(text).string_data == [b"a"]
