"""A small CNN-like model, and running the steps of its compiled form without an NPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.compiled.values import CpuStep
from tests.helpers.builders import parsed

_RANDOM = np.random.default_rng(0)
_WEIGHTS = {
    "w": _RANDOM.normal(size=(4, 4, 3, 3)).astype(np.float32) / 6,
    "v": _RANDOM.normal(size=(4, 4, 1, 1)).astype(np.float32) / 2,
    "s": np.float32([0.5]),
}
IMAGE = "float[1,4,8,8]"
BODY = """
    a = Conv <pads = [1, 1, 1, 1]> (x, w)
    b = Sigmoid (a)
    c = Mul (a, b)
    d = Conv (c, v)
    e = Tanh (d)
    f = Add (c, e)
    g = Conv <pads = [1, 1, 1, 1]> (f, w)
    y = Relu (g)
"""


def model(
    body: str = BODY, inputs: str = f"{IMAGE} x", outputs: str = f"{IMAGE} y", opset: int = 17
) -> onnx.ModelProto:
    used = {name: array for name, array in _WEIGHTS.items() if f"{name})" in body}
    return parsed(body, inputs, outputs, used, opset=opset)


def run_steps(compiled: CompiledModel, feed: dict[str, np.ndarray]) -> dict[str, Any]:
    """All values after all steps, the segments' own ONNX in place of the NPU."""
    values: dict[str, Any] = dict(feed)
    for step in compiled.steps:
        if isinstance(step, CpuStep):
            blob, inputs, outputs = step.model, step.inputs, step.outputs
        else:
            assert step.onnx is not None
            blob, inputs, outputs = step.onnx, [t.name for t in step.inputs], [t.name for t in step.outputs]
        session = ort.InferenceSession(blob.read())
        values |= dict(zip(outputs, session.run(list(outputs), {n: values[n] for n in inputs}), strict=True))
    return values


def assert_same(compiled: CompiledModel, proto: onnx.ModelProto, feed: dict[str, np.ndarray]) -> None:
    session = ort.InferenceSession(proto.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    values = run_steps(compiled, feed)
    for name, expected in zip(names, session.run(names, feed), strict=True):
        np.testing.assert_allclose(values[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)


def image() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(3).normal(size=(1, 4, 8, 8)).astype(np.float32)}
