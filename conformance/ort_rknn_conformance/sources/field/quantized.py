"""Weights stored in few bits, in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ort_rknn_conformance.sources.field.sketch import FLOAT, Made, Maker, Sketch

__all__ = ["MODELS"]


def _blocks(weight: NDArray[Any], axis: int, block: int, bits: int, lowest: int) -> tuple[NDArray[Any], ...]:
    """Whole numbers, scales and zero points."""
    shape = list(weight.shape)
    shape[axis : axis + 1] = [shape[axis] // block, block]
    low, high = (getattr(weight.reshape(shape), side)(axis + 1) for side in ("min", "max"))
    most = 2**bits - 1
    scale = np.maximum((high - low) / most, 1e-8).astype(np.float32)
    zero = np.clip(np.round(-low / scale), 0, most) + lowest
    whole = np.round(weight / scale.repeat(block, axis)) + zero.repeat(block, axis)
    return np.clip(whole, lowest, most + lowest), scale, zero


def pictures() -> Made:
    """Conv weights of 8 bits in blocks of 64."""
    s = Sketch()
    x = s.op("Relu", s.op("Conv", "x", s.weight(64, 3, 3, 3), pads=[1] * 4, strides=[2, 2]))
    for _ in range(2):
        whole, scale, zero = _blocks((s.random.standard_normal((64, 576)) / 24).astype(np.float32), 1, 64, 8, 0)
        weight = s.op(
            "DequantizeLinear", s.const(whole, np.uint8), s.const(scale), s.const(zero, np.uint8), axis=1, block_size=64
        )
        x = s.op("Relu", s.op("Conv", x, s.op("Reshape", weight, s.ints(64, 64, 3, 3)), s.weight(64), pads=[1] * 4))
    feed = {"x": np.random.default_rng(1).standard_normal((1, 3, 32, 32)).astype(np.float32)}
    return s.model({"x": (FLOAT, [1, 3, 32, 32])}, {"y": (FLOAT, [1, 64, 16, 16])}, [x], opset=21), [feed]


def text() -> Made:
    """MatMul weights of 4 bits in blocks of 32."""
    s, x = Sketch(), "x"
    for number in range(2):
        whole, scale, zero = _blocks((s.random.standard_normal((128, 128)) / 11).astype(np.float32), 0, 32, 4, -8)
        packed = [
            s.tensor(helper.make_tensor(f"{name}_{number}", TensorProto.INT4, one.shape, one.astype(np.int8).ravel()))
            for name, one in (("whole", whole), ("zero", zero))
        ]
        weight = s.op("DequantizeLinear", packed[0], s.const(scale), packed[1], axis=0, block_size=32)
        x = s.op("Gelu", s.op("MatMul", x, weight))
    feed = {"x": np.random.default_rng(1).standard_normal((1, 64, 128)).astype(np.float32)}
    return s.model({"x": (FLOAT, [1, 64, 128])}, {"y": (FLOAT, [1, 64, 128])}, [x], opset=21), [feed]


MODELS: dict[str, Maker] = {one.__name__: one for one in (pictures, text)}
