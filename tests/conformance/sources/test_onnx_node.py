"""The standard's cases as we take them: names, constants as initializers, sequences, and that onnxruntime runs them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from ort_rknn_conformance.case import Case
from ort_rknn_conformance.sources.onnx_node import cases
from tests.helpers.versions import skip_newer_opsets


@pytest.fixture(scope="module")
def everything() -> dict[str, Case]:
    return {case.name: case for case in cases()}


def test_all_of_them_once(everything: dict[str, Case]) -> None:
    kinds = {name.partition("/")[0] for name in everything}
    assert kinds == {"node", "simple", "pytorch-converted", "pytorch-operator"}
    assert sum(name.startswith("node/") for name in everything) > 1400
    assert all(case.feeds for case in everything.values())


def test_parameters_are_initializers(everything: dict[str, Case]) -> None:
    case = everything["node/test_conv_with_strides_padding"]
    graph = onnx.load_model_from_string(case.model).graph
    assert [item.name for item in graph.input] == ["x"]
    assert [item.name for item in graph.initializer] == ["W"]
    assert set(case.feeds[0]) == {"x"}


@pytest.mark.parametrize(
    "name",
    [
        "node/test_relu",
        "node/test_reshape_reordered_all_dims",
        "node/test_resize_upsample_scales_nearest",
        "node/test_sequence_insert_at_back",
        "simple/test_sequence_model1",
        "pytorch-converted/test_Conv2d_padding",
        "pytorch-operator/test_operator_maxpool",
    ],
)
def test_onnxruntime_runs_them(everything: dict[str, Case], name: str) -> None:
    case = everything[name]
    skip_newer_opsets(onnx.load_model_from_string(case.model))
    session = onnxruntime.InferenceSession(case.model, providers=["CPUExecutionProvider"])
    for feed in case.feeds:
        assert session.run(None, dict(feed))


def test_patterns() -> None:
    assert {case.name for case in cases(["node/test_relu", "simple/*shape_model1"])} >= {
        "node/test_relu",
        "simple/test_expand_shape_model1",
    }
    assert [case.name for case in cases(["no such case"])] == []


def test_numpy_scalars_become_arrays(everything: dict[str, Case]) -> None:
    for case in everything.values():
        for feed in case.feeds:
            assert not any(isinstance(value, (np.generic, onnx.TensorProto)) for value in feed.values()), case.name
