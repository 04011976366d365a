"""Names and dims read from a model's bytes, compared with the real parser."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.onnx_file.signature import DeclaredValue
from ort_rknn_converters.toolkit.model_io import read_io
from tests.helpers.toolkits import real as models


def test_reads_what_onnx_reads() -> None:
    shape: list[int | str] = ["batch", 3, 1 << 40]
    model = models.model(
        [helper.make_node("Add", ["é/x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["z"])],
        [("é/x", TensorProto.FLOAT16, shape), ("w", TensorProto.FLOAT16, [3, 1]), ("s", TensorProto.INT64, [])],
        [("y", TensorProto.FLOAT16, shape), ("z", TensorProto.FLOAT16, [])],
        {"w": np.ones((3, 1), np.float16)},
    )
    io = read_io(model)
    assert io.inputs == (
        DeclaredValue("é/x", ("batch", 3, 1 << 40)),
        DeclaredValue("s", ()),
    )
    assert [(value.name, value.dims) for value in io.outputs] == [("y", ("batch", 3, 1 << 40)), ("z", ())]


def test_a_value_without_shape_or_type() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [onnx.ValueInfoProto(name="y")],
    )
    io = read_io(helper.make_model(graph).SerializeToString())
    assert io.inputs[0] == DeclaredValue("x", None)
    assert io.outputs[0] == DeclaredValue("y", None, is_tensor=False)


@pytest.mark.parametrize("data", [b"", b"text", b"\x08\x08", b"\xff" * 30, b"\x3a\xff\x01x"])
def test_no_model(data: bytes) -> None:
    with pytest.raises(ModelError, match="not an ONNX model"):
        read_io(data)


@given(st.binary(max_size=60), st.integers(0, 200))
def test_mangled_models_are_read_or_refused_by_our_error(noise: bytes, at: int) -> None:
    model, _ = models.conv()
    data = model[: at % len(model)] + noise + model[at % len(model) + len(noise) :]
    with contextlib.suppress(ModelError):
        read_io(data)
