"""Inputs that callers must feed, read from a model's bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from ort_rknn_converters.onnx_file.signature import DeclaredValue, declared_inputs


def test_tensors_without_a_default() -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", -1, 3]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]),
            helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("free", TensorProto.FLOAT, None),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("w", TensorProto.FLOAT, [3], [1, 2, 3])],
    )
    found = declared_inputs(helper.make_model(graph).SerializeToString())
    assert found == (DeclaredValue("x", ("batch", None, 3)), DeclaredValue("free", None))
    assert all(value.is_open for value in found)
    assert not DeclaredValue("z", (1, 2)).is_open


@pytest.mark.parametrize("data", [b"", b"RKNN\0\0\0\0", b"\xff" * 30])
def test_what_is_no_model_has_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    assert declared_inputs(tmp_path / "m.onnx") == declared_inputs(data) == ()
