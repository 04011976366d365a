"""A model with a weight that is stored apart, for the tests of large weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.onnx_file.weights import LARGE


def large() -> onnx.ModelProto:
    """A MatMul with a weight that is just large enough and an Add with a small one."""
    weight = np.random.default_rng(0).standard_normal((512, LARGE // 2048)).astype(np.float32)
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
