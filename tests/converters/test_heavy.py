"""Large weights kept apart: what is written in pieces is read as one model."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.heavy import HEAVY, is_heavy, serialized, size_of
from ort_rknn_converters.lower import lower
from ort_rknn_converters.targets import find_target


def large() -> onnx.ModelProto:
    """A MatMul with a weight of 1 MB and an Add with a small one."""
    weight = np.random.default_rng(0).standard_normal((512, HEAVY // 2048)).astype(np.float32)
    bias = np.ones(weight.shape[1], np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"], name="m"), helper.make_node("Add", ["m", "b"], ["y"], name="a")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 512])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, weight.shape[1]])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def constants(model: onnx.ModelProto) -> dict[str, bytes]:
    return {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in model.graph.initializer}


def test_pieces_in_a_row_are_one_model() -> None:
    model = large()
    pieces = list(serialized(large()))
    assert len(pieces) == 3
    read = onnx.load_model_from_string(b"".join(pieces))
    assert constants(read) == constants(model)
    assert read.graph.node == model.graph.node
    onnx.checker.check_model(read, full_check=True)


def test_size_without_a_copy() -> None:
    model = large()
    assert 0 <= len(model.SerializeToString()) - size_of(model) < 1000


def test_lowering_shares_large_weights() -> None:
    model = large()
    lowered = lower(model, find_target("rk3588"))
    assert not any(map(is_heavy, lowered.light.graph.initializer))
    assert lowered.heavy.size == HEAVY
    whole = onnx.load_model_from_string(b"".join([lowered.light.SerializeToString(), *lowered.heavy]))
    assert constants(whole) == constants(lowered.model) == constants(model)
    assert [value.name for value in whole.graph.input] == ["x"]
