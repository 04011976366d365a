"""Tiny ONNX models for tests of sessions. Their weights are small whole numbers, so that fp16 computes them exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.helpers.builders import build

__all__ = ["MODELS", "model"]

F = TensorProto.FLOAT
W = np.array([[1, 2], [-1, 3]], np.float32)


def _value(name: str, dtype: int, shape: Sequence[Any] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray[Any, Any]] | None = None,
    **more: Any,
) -> onnx.ModelProto:
    for number, node in enumerate(nodes):
        node.name = node.name or f"{node.op_type.lower()}_{number}"
    made = build(nodes, {}, (), weights, opset=17, ir_version=8, name="g")
    made.graph.input.extend(inputs)
    made.graph.output.extend(outputs)
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    made.graph.doc_string, made.doc_string, made.producer_name = "a graph", "a model", "tests"
    made.domain, made.model_version = "ai.tests", 7
    made.metadata_props.add(key="names", value="a,b,c")
    return made


def _two() -> onnx.ModelProto:
    """A, B [3,2] -> Y = relu(A W) + B, K = A W: all of it fit for an NPU."""
    nodes = [
        helper.make_node("MatMul", ["A", "W"], ["K"]),
        helper.make_node("Relu", ["K"], ["r"]),
        helper.make_node("Add", ["r", "B"], ["Y"]),
    ]
    shapes = [_value("A", F, [3, 2]), _value("B", F, [3, 2])]
    return _model(nodes, shapes, [_value("Y", F, [3, 2]), _value("K", F, [3, 2])], {"W": W})


def _mixed() -> onnx.ModelProto:
    """X [1,2,4,4] -> Y (convolution, NPU), P int64 (places of the positive values, CPU)."""
    kernel = np.arange(-4, 4, dtype=np.float32).reshape(2, 2, 2, 1)
    nodes = [
        helper.make_node("Conv", ["X", "W"], ["c"], pads=[1, 0, 0, 0]),
        helper.make_node("Relu", ["c"], ["Y"]),
        helper.make_node("NonZero", ["Y"], ["P"]),
    ]
    outputs = [_value("Y", F, [1, 2, 4, 4]), _value("P", TensorProto.INT64, [4, "count"])]
    return _model(nodes, [_value("X", F, [1, 2, 4, 4])], outputs, {"W": kernel})


def _dynamic() -> onnx.ModelProto:
    """X [N,2] -> Y [N,2], D [2,?] unused."""
    nodes = [helper.make_node("MatMul", ["X", "W"], ["m"]), helper.make_node("Relu", ["m"], ["Y"])]
    return _model(nodes, [_value("X", F, ["N", 2])], [_value("Y", F, ["N", 2])], {"W": W})


def _override() -> onnx.ModelProto:
    """X [3,2] -> Y = relu(X W); W may be fed."""
    nodes = [helper.make_node("MatMul", ["X", "W"], ["m"]), helper.make_node("Relu", ["m"], ["Y"])]
    return _model(nodes, [_value("X", F, [3, 2]), _value("W", F, [2, 2])], [_value("Y", F, [3, 2])], {"W": W})


def _scalar() -> onnx.ModelProto:
    """X [3,2], s [] -> Y = relu(X W) * s, t [] = s + s."""
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("Mul", ["r", "s"], ["Y"]),
        helper.make_node("Add", ["s", "s"], ["t"]),
    ]
    return _model(
        nodes, [_value("X", F, [3, 2]), _value("s", F, [])], [_value("Y", F, [3, 2]), _value("t", F, [])], {"W": W}
    )


def _same(dtype: int, shape: Sequence[Any] | None) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        return _model(
            [helper.make_node("Identity", ["X"], ["Y"])], [_value("X", dtype, shape)], [_value("Y", dtype, shape)]
        )

    return make


def _typed(kind: onnx.TypeProto) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        values = [helper.make_value_info(name, kind) for name in ("X", "Y")]
        return _model([helper.make_node("Identity", ["X"], ["Y"])], values[:1], values[1:])

    return make


def _zipmap() -> onnx.ModelProto:
    """X [N,2] -> probabilities as a list of dictionaries."""
    node = helper.make_node("ZipMap", ["X"], ["Y"], domain="ai.onnx.ml", classlabels_strings=["cat", "dog"])
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(F, []))
    )
    return _model([node], [_value("X", F, ["N", 2])], [helper.make_value_info("Y", kind)])


def _shapes() -> onnx.ModelProto:
    """Inputs and outputs with every way to write a dimension."""
    unnamed = helper.make_tensor_value_info("u", F, [None, 2])
    inputs = [unnamed, _value("a", F, ["N", "a + b"]), _value("n", F, None), _value("s", F, [])]
    outputs = [_value(f"{value.name}_out", F, None) for value in inputs]
    nodes = [helper.make_node("Identity", [value.name], [f"{value.name}_out"]) for value in inputs]
    return _model(nodes, inputs, outputs)


def _gather() -> onnx.ModelProto:
    """X [3,2], i int64 [n] -> Y [n,2]: a kernel that can fail at run time."""
    node = helper.make_node("Gather", ["X", "i"], ["Y"], name="gather_node")
    return _model([node], [_value("X", F, [3, 2]), _value("i", TensorProto.INT64, ["n"])], [_value("Y", F, ["n", 2])])


_TENSOR = helper.make_tensor_type_proto(F, [None])
MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "two": _two,
    "mixed": _mixed,
    "dynamic": _dynamic,
    "override": _override,
    "scalar": _scalar,
    "shapes": _shapes,
    "gather": _gather,
    "zipmap": _zipmap,
    "double": _same(TensorProto.DOUBLE, [2]),
    "half": _same(TensorProto.FLOAT16, [2]),
    "int64": _same(TensorProto.INT64, [2]),
    "int32": _same(TensorProto.INT32, [2]),
    "int8": _same(TensorProto.INT8, [2]),
    "uint8": _same(TensorProto.UINT8, [2]),
    "bool": _same(TensorProto.BOOL, [2]),
    "string": _same(TensorProto.STRING, [2]),
    "bfloat16": _same(TensorProto.BFLOAT16, [2]),
    "sequence": _typed(helper.make_sequence_type_proto(_TENSOR)),
    "optional": _typed(helper.make_optional_type_proto(_TENSOR)),
}


@cache
def model(name: str) -> bytes:
    """A model of the table, serialized."""
    content: bytes = MODELS[name]().SerializeToString()
    return content
