from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers.onnx_models import build, check_prepared, random


def stored(kind: int, shape: tuple[int, ...], low: int, high: int, seed: int = 0) -> onnx.TensorProto:
    values = np.random.default_rng(seed).integers(low, high, shape)
    return helper.make_tensor("q" if not seed else "z", kind, shape, values.ravel().tolist())


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        (TensorProto.INT4, -8, 8),
        (TensorProto.UINT4, 0, 16),
        (TensorProto.INT16, -3000, 3000),
        (TensorProto.UINT16, 0, 6000),
    ],
)
@pytest.mark.parametrize("form", ["tensor", "channel", "block"])
def test_every_type_and_form(kind: int, low: int, high: int, form: str) -> None:
    shapes = {"tensor": (), "channel": (8,), "block": (4, 8)}
    attributes = {"tensor": {}, "channel": {"axis": 1}, "block": {"axis": 0, "block_size": 8}}
    node = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], **attributes[form])
    made = build([node, helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": random(2, 32)}, ["y"], opset=21)
    scales = np.abs(random(*shapes[form], seed=2)) + np.float32(0.01)
    made.graph.initializer.append(stored(kind, (32, 8), low, high))
    made.graph.initializer.append(stored(kind, shapes[form], low, high, seed=1))
    made.graph.initializer.append(numpy_helper.from_array(np.asarray(scales, np.float32), "s"))
    # onnxruntime has kernels of its own for 4 bits in blocks, less exact than the op says.
    check_prepared(made, {"x": random(2, 32, seed=5)}, ops=["MatMul"], rtol=2e-2 if form == "block" else 1e-4)


def test_microsofts_op() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], domain="com.microsoft", axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    constants = {
        "q": np.random.default_rng(0).integers(-9, 9, (16, 8)).astype(np.int16),
        "s": np.abs(random(8)) + np.float32(0.01),
        "z": np.zeros(8, np.int16),
    }
    made = build(nodes, {"x": random(2, 16)}, {"y": random(2, 8)}, constants, opset=17, domains=["com.microsoft"])
    check_prepared(made, {"x": random(2, 16, seed=5)}, ops=["MatMul"], rtol=1e-4)


def test_bytes_in_blocks_beside_rounded_values() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "one", "zero"], ["f"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0, block_size=8),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    constants = {
        "q": np.random.default_rng(0).integers(-90, 90, (16, 8)).astype(np.int8),
        "s": np.abs(random(2, 8)) + np.float32(0.01),
        "one": np.array(0.02, np.float32),
        "zero": np.array(128, np.uint8),
    }
    made = build(nodes, {"x": random(2, 16)}, {"y": random(2, 8)}, constants, opset=21)
    ops = ["QuantizeLinear", "DequantizeLinear", "MatMul"]
    check_prepared(made, {"x": random(2, 16, seed=5)}, ops=ops, rtol=1e-4)
