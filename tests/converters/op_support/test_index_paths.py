"""Whole numbers computed from floats stay on the CPU with the arithmetic before them; networks do not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.op_support.index_paths import DECIDING_REASON, REASON, WHOLE_REASON
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


def _decided(body: str, outputs: str, inputs: str = "float[1,8,16] x", **constants: np.ndarray) -> set[str]:
    """Names of the nodes that stay on the CPU because something decides by them, or is a place."""
    proto = parse_graph(f"g ({inputs}) => ({outputs}) {{ {body} }}")
    proto.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx_graph.load(model)
    exact = {REASON, WHOLE_REASON, DECIDING_REASON}
    return {node.name for node in plan_only(model, min_gain=0).nodes if node.reason in exact}


W = np.ones((16, 16), np.float32)


def test_an_equal_with_an_id_takes_what_only_passes_it_on() -> None:
    body = "[u] a = Unsqueeze (x, axis) [e] y = Equal (a, id) [n] z = MatMul (a, w)"
    outputs = "bool[1,8,16,1] y, float[1,8,16,16] z"
    constants = {"axis": np.array([3]), "id": np.float32(2049), "w": np.ones((1, 16), np.float32)}
    assert _decided(body, outputs, **constants) == {"u"}


def test_comparisons_of_what_the_caller_gives_are_exact() -> None:
    body = "[m] a = Mul (x, scale) [l] y = Less (a, id)"
    assert _decided(body, "bool[1,8,16] y", scale=np.float32(100), id=np.float32(5)) == {"m", "l"}
    assert _decided("[g] y = Greater (x, id)", "bool[1,8,16] y", id=np.float32(2049)) == {"g"}


def test_comparisons_that_fp16_does_not_change_stay() -> None:
    assert _decided("[g] y = Greater (x, id)", "bool[1,8,16] y", id=np.float32(0.5)) == set()
    body = "[m] a = ReduceMax <axes = [2]> (x) [g] y = Greater (a, low)"
    assert _decided(body, "bool[1,8,1] y", low=np.float32(-3e38)) == set()


def test_comparisons_of_a_network_stay() -> None:
    body = "[n] a = MatMul (x, w) [s] b = Sigmoid (a) [g] y = Greater (b, half)"
    assert _decided(body, "bool[1,8,16] y", w=W, half=np.float32(0.3)) == set()


@pytest.mark.parametrize(
    ("body", "outputs", "constants", "expected"),
    [
        (
            "[d] s = Div (wish, by) [c] t = Concat <axis = 0> (ones, s) [r] y = Resize <mode = 'nearest'> (p, , t)",
            "float[1,3,?,?] y",
            {"by": np.float32([48, 48]), "ones": np.float32([1, 1])},
            {"d", "c"},
        ),
        (
            "[a] b = Add (boxes, far) [n] y = NonMaxSuppression (b, scores, most)",
            "int64[?,3] y",
            {"far": np.float32(700), "most": np.array([5])},
            {"a"},
        ),
        (
            "[m] g = Mul (flow, to) [s] y = GridSample (p, g)",
            "float[1,3,8,8] y",
            {"to": np.float32(0.01)},
            {"m"},
        ),
    ],
    ids=["scales", "boxes", "grid"],
)
def test_places_and_sizes(body: str, outputs: str, constants: dict[str, np.ndarray], expected: set[str]) -> None:
    inputs = "float[1,3,8,8] p, float[2] wish, float[1,20,4] boxes, float[1,1,20] scores, float[1,8,8,2] flow"
    assert _decided(body.replace("'", '"'), outputs, inputs, **constants) == expected


def test_a_position_behind_a_sigmoid_is_rounded_on_the_cpu_and_its_network_is_not() -> None:
    body = "[n] a = MatMul (x, w) [s] b = Sigmoid (a) [m] c = Mul (b, width) [f] y = Floor (c)"
    assert _decided(body, "float[1,8,16] y", w=W, width=np.float32(640)) == {"s", "m", "f"}


def test_quantization_by_hand_inside_a_network_stays_with_it() -> None:
    body = "[n] a = MatMul (x, w) [d] b = Div (a, step) [r] c = Round (b) [m] e = Mul (c, step) [o] y = MatMul (e, w)"
    assert _decided(body, "float[1,8,16] y", w=W, step=np.float32(0.1)) == set()


def test_what_is_left_of_the_callers_mean() -> None:
    body = "[m] a = ReduceMean <axes = [2]> (x) [s] b = Sub (x, a) [n] y = MatMul (b, w)"
    assert _decided(body, "float[1,8,16] y", w=W) == {"m", "s"}
    body = "[n] c = MatMul (x, w) [m] a = ReduceMean <axes = [2]> (c) [s] y = Sub (c, a)"
    assert _decided(body, "float[1,8,16] y", w=W) == set()


def test_angles_of_a_time_step_but_not_of_a_count() -> None:
    body = "[m] a = Mul (x, rate) [s] y = Sin (a)"
    assert _decided(body, "float[1,8,16] y", rate=np.float32(0.3)) == {"m", "s"}
    assert _decided("[s] y = Sin (x)", "float[1,8,16] y") == set()
