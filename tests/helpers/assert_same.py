"""Compares two models on CPU onnxruntime: same answers, or an assertion that says where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime

__all__ = ["assert_same_values", "run_cpu"]


def run_cpu(model: onnx.ModelProto | bytes, feed: Mapping[str, Any]) -> dict[str, Any]:
    """The model's outputs by name, without onnxruntime's own optimizations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def assert_same_values(expected: Any, actual: Any, *, rtol: float = 1e-5, what: str = "") -> None:
    """Same type, shape, NaN and infinities; floats within ``rtol`` of the value or of a millionth of the largest."""
    if isinstance(expected, (list, tuple)):
        assert len(expected) == len(actual), what
        for one, other in zip(expected, actual, strict=True):
            assert_same_values(one, other, rtol=rtol, what=what)
        return
    if expected is None or isinstance(expected, Mapping):
        assert expected == actual, what
        return
    assert expected.dtype == actual.dtype, (what, expected.dtype, actual.dtype)
    assert expected.shape == actual.shape, (what, expected.shape, actual.shape)
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected, err_msg=what)
        return
    if expected.dtype == np.float16:
        rtol = max(rtol, 2e-3)
    finite = np.abs(expected[np.isfinite(expected)].astype(np.float64))
    scale = float(finite.max()) if finite.size else 0.0
    np.testing.assert_allclose(
        actual.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=scale * 1e-6, err_msg=what
    )
