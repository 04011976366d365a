"""Segments with real ONNX inside, for devices that execute it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ort_rknn.devices.base import SegmentCode, TensorSpec
from tests.helpers.builders import build

__all__ = ["Memory", "OnDisk", "cnn", "gate_model", "segment_of"]


@dataclass(frozen=True)
class Memory:
    """A blob in memory."""

    data: bytes
    path: None = None

    def read(self) -> bytes:
        return self.data


@dataclass(frozen=True)
class OnDisk:
    """A blob that must be opened by its path."""

    path: str

    def read(self) -> bytes:
        raise AssertionError("a blob on disk is opened by its path")


def segment_of(model: onnx.ModelProto, path: Path | None = None, precision: str = "fp16") -> SegmentCode:
    """The model as a segment; written to ``path`` if one is given."""
    if path is not None:
        onnx.save(model, path)
    blob = Memory(model.SerializeToString()) if path is None else OnDisk(str(path))
    inputs, outputs = (_specs(values) for values in (model.graph.input, model.graph.output))
    return SegmentCode(model.graph.name, inputs, outputs, "rk3588", precision, None, blob)


def _specs(values: Sequence[Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            value.name,
            np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
            tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim),
        )
        for value in values
    )


def gate_model() -> onnx.ModelProto:
    """``y = relu(x @ w + b)`` and ``k = argmax(y)``: a float and an integer output."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(4, 8)).astype(np.float32), "w"),
        numpy_helper.from_array(rng.normal(size=8).astype(np.float32), "b"),
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["k"], axis=1, keepdims=0),
    ]
    return _model(
        "gate", nodes, weights, {"x": (1, 4)}, {"y": (TensorProto.FLOAT, (1, 8)), "k": (TensorProto.INT64, (1,))}
    )


def cnn() -> onnx.ModelProto:
    """Two convolutions, a pool and a softmax."""
    rng = np.random.default_rng(1)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (16, 8, 3, 3), "b2": (16,), "w3": (16, 10), "b3": (10,)}
    weights = [
        numpy_helper.from_array((rng.normal(size=shape) * 0.3).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["l"]),
        helper.make_node("Softmax", ["l"], ["y"], axis=1),
    ]
    return _model("cnn", nodes, weights, {"x": (1, 3, 16, 16)}, {"y": (TensorProto.FLOAT, (1, 10))})


def _model(name: str, nodes: Any, weights: Any, inputs: Any, outputs: Any) -> onnx.ModelProto:
    given = {key: (TensorProto.FLOAT, shape) for key, shape in inputs.items()}
    model = build(nodes, given, outputs, opset=17, ir_version=8, name=name)
    model.graph.initializer.extend(weights)
    onnx.checker.check_model(model)
    return model
