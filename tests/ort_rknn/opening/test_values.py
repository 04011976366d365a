"""Inputs that are taken for constants: calls with those values run on the NPU, others on onnxruntime."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import ort_rknn
from ort_rknn.options.table import RknnOptions
from tests.helpers.onnx_models import build, random

IMAGE = random(1, 3, 16, 16)


def scaled() -> bytes:
    nodes = [
        helper.make_node("Concat", ["one", "ratio", "ratio"], ["scales"], axis=0),
        helper.make_node("Resize", ["x", "", "scales"], ["small"], mode="linear"),
        helper.make_node("Conv", ["small", "w"], ["y"]),
    ]
    constants = {"one": np.ones(2, np.float32), "w": random(4, 3, 3, 3)}
    inputs = {"x": IMAGE, "ratio": (TensorProto.FLOAT, [1])}
    return build(nodes, inputs, ["y"], constants, opset=17).SerializeToString()


@pytest.mark.parametrize("given", [{"ratio": 0.5, "on": True}, "ratio=0.5;on=true", {"ratio": "0.5", "on": "True"}])
def test_the_option_in_all_forms(given: object) -> None:
    assert RknnOptions.parse({"values": given}).values == {"ratio": "0.5", "on": "true"}


@pytest.mark.toolkit
def test_calls_with_other_values_run_on_the_cpu(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = scaled()
    options = {"device": "simulator", "min_gain": 0, "values": {"ratio": 0.5}, "cache_dir": str(tmp_path)}
    session = ort_rknn.InferenceSession(model, providers=[("RKNNExecutionProvider", options), "CPUExecutionProvider"])
    assert session.plan.npu_nodes == len(session.plan.nodes)
    reference = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with caplog.at_level(logging.WARNING):
        for ratio in (0.5, 0.25, 0.75):
            feed = {"x": IMAGE, "ratio": np.float32([ratio])}
            (got,), (want,) = session.run(None, feed), reference.run(None, feed)
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, atol=2e-2)
    said = [record.message for record in caplog.records if "option values" in record.message]
    assert len(said) == 1
    assert "input ratio is [0.25], and the NPU code was made for 0.5" in said[0]
