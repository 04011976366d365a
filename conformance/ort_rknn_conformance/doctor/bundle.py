"""The self-test's model; its compiled files for every SoC are made with the board test's (``board_models``)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["SUFFIX", "source"]

SUFFIX = ".compiled"


def source() -> onnx.ModelProto:
    """``y = relu(conv(x))``, 8 channels of 8 x 8, weights from a fixed seed."""
    shape = [1, 8, 8, 8]
    weights = np.random.default_rng(0).normal(0, 0.1, (8, 8, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["y"], "relu"),
        ],
        "self_test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
