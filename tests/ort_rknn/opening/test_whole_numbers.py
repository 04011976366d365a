"""Opening a compiled model whose numbers are off as a whole: a warning with the figure, or refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

import ort_rknn
from ort_rknn_converters.pipeline.convert import convert
from tests.helpers.toolkits.scripted import ScriptedToolkit

FIGURE = r"y off by [0-9.]+ %"


@pytest.fixture
def compiled(tmp_path: Path) -> str:
    """A compiled model whose network makes numbers too large for what is left of them: no cheap node cures it."""
    random = np.random.default_rng(0)
    weight = np.concatenate([random.normal(size=(63, 64)) / 8, np.full((1, 64), 300.0)]).astype(np.float32)
    body = "t = Sigmoid (x) a = MatMul (t, s) m = ReduceMean <axes = [2]> (a) c = Sub (a, m) y = Sinh (c)"
    graph = parse_graph(f"g (float[1,16,64] x) => (float[1,16,64] y) {{ {body} }}")
    graph.initializer.append(numpy_helper.from_array(weight, "s"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    made = convert(model, min_gain=0, compile=ScriptedToolkit(), known_failures=tmp_path)
    made.save(tmp_path / "m.rknn.onnx")
    return str(tmp_path / "m.rknn.onnx")


def opened(path: str, device: str, **options: Any) -> ort_rknn.InferenceSession:
    return ort_rknn.InferenceSession(path, providers=[("RKNNExecutionProvider", {"device": device, **options})])


def test_the_figure_is_in_the_sessions_plan(compiled: str) -> None:
    plan = opened(compiled, "simulator").plan
    assert plan.whole.problem.startswith("y off by ")
    assert "whole model: not right: y off by" in str(plan)


def test_it_is_refused_where_numbers_are_strict(compiled: str) -> None:
    with pytest.raises(ort_rknn.capi.onnxruntime_pybind11_state.Fail, match=FIGURE):
        opened(compiled, "simulator", strict_numbers=True)


def test_on_the_cpu_numbers_are_right_and_nothing_is_said(compiled: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "ort_rknn"):
        session = opened(compiled, "cpu", strict_numbers=True)
    assert "off by" not in caplog.text
    assert session.run(None, {"x": np.zeros((1, 16, 64), np.float32)})[0].shape == (1, 16, 64)
