"""Whole numbers computed from floats stay on the CPU with the arithmetic before them; networks do not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.op_support.index_paths import REASON, WHOLE_REASON
from ort_rknn_converters.pipeline.convert import plan_only


def _reasons(body: str, result: str, **constants: np.ndarray) -> dict[str, str]:
    """Node -> why it is on the CPU; empty for the NPU."""
    proto = parse_graph(f"g (float[1,8,16,16] x) => ({result} y) {{ {body} }}")
    proto.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx_graph.load(model)
    return {node.name: node.reason for node in plan_only(model, min_gain=0).nodes}


SCALE = {"scale": np.array(0.1, np.float32), "low": np.float32(0), "high": np.float32(255)}


@pytest.mark.parametrize(("kind", "number"), [("uint8", 2), ("int32", 6), ("int64", 7), ("int8", 3)])
def test_quantization_by_hand(kind: str, number: int) -> None:
    reasons = _reasons(
        f"[d] a = Div (x, scale) [r] b = Round (a) [c] d = Clip (b, low, high) [cast] y = Cast <to = {number}> (d)",
        f"{kind}[1,8,16,16]",
        **{name: np.asarray(value) for name, value in SCALE.items()},
    )
    assert reasons["d"] == reasons["c"] == WHOLE_REASON
    assert all(reasons.values())


def test_the_network_before_it_stays_on_the_npu() -> None:
    reasons = _reasons(
        "[conv] a = Conv (x, w) [act] b = Relu (a) [half] c = Mul (b, scale) [cast] y = Cast <to = 6> (c)",
        "int32[1,8,16,16]",
        w=np.ones((8, 8, 1, 1), np.float32),
        scale=np.array(0.5, np.float32),
    )
    assert (reasons["conv"], reasons["act"]) == ("", "")
    assert reasons["half"] == WHOLE_REASON
    assert reasons["cast"]


def test_a_branch_that_is_not_cast_stays() -> None:
    reasons = _reasons(
        "[m] a = Mul (x, scale) [n] b = Neg (a) [s] y = Sigmoid (b)", "float[1,8,16,16]", scale=np.array(2, np.float32)
    )
    assert set(reasons.values()) == {""}


def test_a_flag_is_no_number() -> None:
    reasons = _reasons(
        "[m] a = Mul (x, scale) [c] b = Cast <to = 9> (a) [back] y = Cast <to = 1> (b)",
        "float[1,8,16,16]",
        scale=np.array(2, np.float32),
    )
    assert WHOLE_REASON not in reasons.values()


def test_a_position_keeps_its_own_reason() -> None:
    reasons = _reasons(
        "[m] a = ReduceMax <axes = [1, 2, 3], keepdims = 0> (x) [c] b = Cast <to = 7> (a) "
        "[g] y = Gather <axis = 1> (x, b)",
        "float[1,1,16,16]",
    )
    assert reasons["m"] == REASON
