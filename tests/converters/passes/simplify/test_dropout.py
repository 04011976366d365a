from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.pipeline.prepare import prepare
from tests.helpers.onnx_models import build, check_prepared, random

FEED = {"x": random(3)}


def model(
    inputs: Sequence[str] = ("h",),
    outputs: Sequence[str] = ("d",),
    feed: Mapping[str, np.ndarray] = FEED,
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 18,
    **attributes: Any,
) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("Dropout", list(inputs), list(outputs), **attributes),
        helper.make_node("Neg", ["d"], ["y"]),
    ]
    return build(nodes, feed, ["y", *outputs[1:]], constants, opset=opset)


HALF = {"ratio": np.array(0.5, np.float32)}


@pytest.mark.parametrize("mode", [False, None])
def test_inference_mode_goes(mode: bool | None) -> None:
    constants = HALF if mode is None else {**HALF, "mode": np.array(mode)}
    check_prepared(model(["h", *constants], constants=constants), FEED, ops=["Relu", "Neg"])


@pytest.mark.parametrize("opset", [7, 10])
def test_old_forms_go(opset: int) -> None:
    check_prepared(model(opset=opset, ratio=0.3), FEED, ops=["Relu", "Neg"])


def test_a_mask_that_nobody_reads_does_not_keep_it() -> None:
    nodes = list(model(["h", "ratio"], ["d", "mask"], constants=HALF).graph.node)
    check_prepared(build(nodes, FEED, ["y"], HALF), FEED, ops=["Relu", "Neg"])


def test_a_mask_that_is_an_output_keeps_it() -> None:
    check_prepared(model(["h", "ratio"], ["d", "mask"], constants=HALF), FEED, ops=["Relu", "Dropout", "Neg"])


def test_training_mode_stays() -> None:
    constants = {**HALF, "mode": np.array(True)}
    prepared = prepare(onnx_graph.load(model(["h", *constants], constants=constants))).model
    assert [node.op_type for node in prepared.graph] == ["Relu", "Dropout", "Neg"]


def test_a_mode_known_at_run_time_only_stays() -> None:
    feed = {**FEED, "mode": np.array(False)}
    check_prepared(model(["h", "", "mode"], feed=feed), feed, ops=["Relu", "Dropout", "Neg"])
