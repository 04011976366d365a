"""Makes the ``.rknn`` files beside it with the real toolkit: ``python tests/data/rknn/generate.py``.

The files are committed, so the tests of the npu device need no toolkit. Two builds of one model differ in padding.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.toolkit.compile import compile_segment
from ort_rknn_converters.toolkit.request import CompileRequest

HERE = Path(__file__).parent
RANDOM = np.random.default_rng(5)


def weight(name: str, *dims: int) -> onnx.TensorProto:
    return numpy_helper.from_array((RANDOM.standard_normal(dims) / 4).astype(np.float32), name)


def model(nodes: list[onnx.NodeProto], inputs: list, outputs: list, weights: list[onnx.TensorProto]) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def image() -> bytes:
    """One 4-D input; a 4-D and a 2-D output."""
    return model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["y"]),
            helper.make_node("GlobalAveragePool", ["y"], ["p"]),
            helper.make_node("Flatten", ["p"], ["z"]),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 5])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 5]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4]),
        ],
        [weight("w", 4, 3, 3, 3)],
    )


def tokens() -> bytes:
    """An int64 input, a float32 input; a float32 and an int64 output."""
    return model(
        [
            helper.make_node("Gather", ["table", "ids"], ["e"]),
            helper.make_node("Add", ["e", "bias"], ["h"]),
            helper.make_node("ArgMax", ["h"], ["best"], axis=-1, keepdims=0),
        ],
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 4]),
            helper.make_tensor_value_info("bias", TensorProto.FLOAT, [1, 4, 8]),
        ],
        [
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 4, 8]),
            helper.make_tensor_value_info("best", TensorProto.INT64, [1, 4]),
        ],
        [weight("table", 10, 8)],
    )


def main() -> None:
    feeds = {"x": RANDOM.standard_normal((1, 3, 6, 5)).astype(np.float32)}
    for name, data, options in (
        ("image_fp16_rk3588", image(), {"target": "rk3588", "custom_string": "made for tests"}),
        ("image_fp16_rk3566", image(), {"target": "rk3566"}),
        ("image_int8_rk3588", image(), {"target": "rk3588", "precision": "int8", "options": {"dataset": [feeds]}}),
        ("tokens_fp16_rk3588", tokens(), {"target": "rk3588"}),
    ):
        result = compile_segment(CompileRequest(model=data, **options))
        (HERE / f"{name}.rknn").write_bytes(result.rknn)
        print(name, len(result.rknn), file=sys.stderr)


if __name__ == "__main__":
    main()
