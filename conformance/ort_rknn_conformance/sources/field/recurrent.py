"""States that go from step to step, inside a model or through its caller."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn_conformance.sources.field.sketch import FLOAT, INT64, Made, Maker, Sketch

__all__ = ["MODELS"]


def steps() -> Made:
    """A hand-written LSTM cell, one copy a step, as tracing exports it."""
    s, count, width, state = Sketch(), 4, 24, 32
    into, over = s.weight(4 * state, width), s.weight(4 * state, state)
    bias, sizes = s.const(np.zeros(4 * state)), s.ints(state, state, state, state)
    hidden, cell = s.const(np.zeros((1, state))), s.const(np.zeros((1, state)))
    given = []
    for step in range(count):
        x = s.op("Gather", "x", s.const(step, np.int64), axis=0)
        both = s.op("Add", s.op("Gemm", x, into, bias, transB=1), s.op("Gemm", hidden, over, transB=1))
        *gates, new = s.op("Split", both, sizes, axis=1, outputs=4)
        take, keep, give = (s.op("Sigmoid", gate) for gate in gates)
        cell = s.op("Add", s.op("Mul", keep, cell), s.op("Mul", take, s.op("Tanh", new)))
        hidden = s.op("Mul", give, s.op("Tanh", cell))
        given.append(s.op("Unsqueeze", hidden, s.ints(0)))
    y = s.op("Concat", *given, axis=0)
    feed = {"x": np.random.default_rng(1).standard_normal((count, 1, width)).astype(np.float32)}
    return s.model({"x": (FLOAT, [count, 1, width])}, {"y": (FLOAT, [count, 1, state])}, [y]), [feed]


def matting() -> Made:
    """A video network whose inner size comes from an input, and whose state begins as one zero."""
    s = Sketch()
    scale = s.op("Concat", s.const([1.0, 1.0]), "ratio", "ratio", axis=0)
    y = s.op("Resize", "x", "", scale, mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
    y = s.op("Relu", s.op("Conv", y, s.weight(16, 3, 3, 3), strides=[2, 2], pads=[1] * 4))
    state = s.op("Expand", "before", s.op("Shape", y))
    gate = s.op("Sigmoid", s.op("Conv", s.op("Concat", y, state, axis=1), s.weight(16, 32, 3, 3), pads=[1] * 4))
    new = s.op("Add", s.op("Mul", gate, state), s.op("Mul", s.op("Sub", s.const(1.0), gate), s.op("Tanh", y)))
    out = s.op("Conv", new, s.weight(4, 16, 3, 3), pads=[1] * 4)
    head = s.op("Slice", s.op("Shape", out), s.ints(0), s.ints(2))
    size = s.op("Concat", head, s.op("Slice", s.op("Shape", "x"), s.ints(2), s.ints(4)), axis=0)
    out = s.op("Resize", out, "", "", size, mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
    x = np.random.default_rng(1).random((1, 3, 64, 96)).astype(np.float32)
    feed = {"x": x, "before": np.zeros((1, 1, 1, 1), np.float32), "ratio": np.array([0.5], np.float32)}
    model = s.model(
        {"x": (FLOAT, [1, 3, "height", "width"]), "before": (FLOAT, [1, "c", "h", "w"]), "ratio": (FLOAT, [1])},
        {"y": (FLOAT, [1, 4, None, None]), "after": (FLOAT, [1, 16, None, None])},
        [out, new],
    )
    return model, [feed]


def offsets() -> Made:
    """Lengths minus a constant row, which is no shape though it looks like the arithmetic of one."""
    s = Sketch()
    left = s.op("Sub", s.op("Unsqueeze", "lengths", s.ints(1)), s.const(np.arange(5), np.int64))
    y = s.op("MatMul", s.op("Relu", s.op("MatMul", "x", s.weight(64, 64))), s.weight(64, 64))
    x = np.random.default_rng(1).standard_normal((2, 64)).astype(np.float32)
    feed: dict[str, NDArray[Any]] = {"x": x, "lengths": np.array([7, 9], np.int64)}
    model = s.model(
        {"x": (FLOAT, [2, 64]), "lengths": (INT64, [2])}, {"y": (FLOAT, [2, 64]), "left": (INT64, [2, 5])}, [y, left]
    )
    return model, [feed]


MODELS: dict[str, Maker] = {one.__name__: one for one in (steps, matting, offsets)}
