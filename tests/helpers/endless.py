"""Models whose runs do not end by themselves, or need all memory: a Loop of 2**62 steps in several forms."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["IMAGE", "behind_a_loop", "endless_loop"]

IMAGE = (1, 4, 8, 8)
_STEPS = 2**62


def _info(name: str, kind: int, shape: tuple[int, ...] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _loop(source: str, result: str, *, keeps: bool, empty: bool) -> onnx.NodeProto:
    inputs = [_info("i", TensorProto.INT64, ()), _info("c", TensorProto.BOOL, ()), _info("v", TensorProto.FLOAT, IMAGE)]
    if empty:
        return helper.make_node(
            "Loop", ["steps", "true", source], [result], body=helper.make_graph([], "body", inputs, inputs[1:])
        )
    nodes = [helper.make_node("Identity", ["c"], ["again"]), helper.make_node("Mul", ["v", "one"], ["next"])]
    outputs = [_info("again", TensorProto.BOOL, ()), _info("next", TensorProto.FLOAT, IMAGE)]
    results = [result]
    if keeps:
        nodes.append(helper.make_node("Identity", ["v"], ["kept"]))
        outputs.append(_info("kept", TensorProto.FLOAT, IMAGE))
        results.append(f"{result}_all")
    body = helper.make_graph(nodes, "body", inputs, outputs)
    return helper.make_node("Loop", ["steps", "true", source], results, body=body)


def _constants() -> list[onnx.TensorProto]:
    weights = np.random.default_rng(0).normal(size=(4, 4, 3, 3)).astype(np.float32) / 6
    return [
        numpy_helper.from_array(np.int64(_STEPS), "steps"),
        numpy_helper.from_array(np.bool_(True), "true"),
        numpy_helper.from_array(np.float32(1), "one"),
        numpy_helper.from_array(weights, "w"),
        numpy_helper.from_array(np.int64(IMAGE), "shape"),
    ]


def _model(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "endless",
        [_info("x", TensorProto.FLOAT, IMAGE)],
        [_info("y", TensorProto.FLOAT, IMAGE)],
        _constants(),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def endless_loop(*, keeps: bool = False, empty: bool = False) -> onnx.ModelProto:
    """The Loop alone: ``keeps`` what each step gives, in memory; ``empty``: no node in which it could be ended."""
    return _model([_loop("x", "y", keeps=keeps, empty=empty)])


def behind_a_loop(*, keeps: bool = False, empty: bool = False) -> onnx.ModelProto:
    """A Conv whose input nobody will ever see; only its shape is known."""
    return _model(
        [
            _loop("x", "a", keeps=keeps, empty=empty),
            helper.make_node("Reshape", ["a", "shape"], ["r"]),
            helper.make_node("Conv", ["r", "w"], ["b"], pads=[1, 1, 1, 1]),
            helper.make_node("Sigmoid", ["b"], ["y"]),
        ]
    )
