"""The whole compiled model is compared; what its borders spoil moves, what small inputs show is told or moved."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn_converters.errors import WrongNumbers
from ort_rknn_converters.partition.plan import Plan

_RANDOM = np.random.default_rng(0)


def model(body: str, outputs: str, inputs: str = "float[1,16,64] x", **constants: np.ndarray) -> onnx.ModelProto:
    graph = parse_graph(f"g ({inputs}) => ({outputs}) {{ {body} }}")
    weights = {"w": _RANDOM.normal(size=(64, 64)).astype(np.float32) / 8} | constants
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items() if k in used)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def reasons(plan: Plan) -> dict[str, str]:
    return {node.op_type: node.reason for node in plan.nodes}


def centred() -> onnx.ModelProto:
    """A mean far larger than what is left of it, between two networks; Sinh keeps the difference's taker on the CPU."""
    body = """a = MatMul (x, w) b = Add (a, far) m = ReduceMean <axes = [2]> (b) c = Sub (b, m) d = Sinh (c)
              y = MatMul (d, w)"""
    return model(body, "float[1,16,64] y", far=np.float32(60))


def test_the_model_is_measured_as_a_whole(made: Any) -> None:
    whole = made(model("a = MatMul (x, w) b = Asinh (a) y = MatMul (b, w)", "float[1,16,64] y")).plan.whole
    assert [one.name for one in whole.outputs] == ["y"]
    assert 1e-5 < whole.rel_rms < 1e-3
    assert (whole.problem, whole.others, whole.warning) == ("", (), "")


def test_it_stands_in_the_table_and_in_json(made: Any) -> None:
    plan = made(model("a = MatMul (x, w) b = Asinh (a) y = MatMul (b, w)", "float[1,16,64] y")).plan
    assert "whole model: right on random inputs, relative RMS error" in str(plan)
    assert Plan.from_dict(plan.to_dict()) == plan
    older = {key: value for key, value in plan.to_dict().items() if key != "whole"}
    assert Plan.from_dict(older).whole is None


def test_nothing_is_measured_where_nothing_is_rounded(made: Any) -> None:
    assert made(model("y = Asinh (x)", "float[1,16,64] y")).plan.whole is None
    assert made(model("y = MatMul (x, w)", "float[1,16,64] y"), verify_feeds=0).plan.whole is None


def test_what_makes_a_border_wrong_moves_to_the_cpu_and_the_network_stays(made: Any) -> None:
    plan = made(centred()).plan
    said = reasons(plan)
    assert {op for op in ("Add", "ReduceMean", "Sub") if "makes the whole model wrong" in said[op]}
    assert said["MatMul"] == ""
    assert plan.whole.problem == ""
    assert plan.whole.rel_rms < 5e-3


def test_a_network_is_not_moved_and_the_figure_is_told(made: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The large part comes out of a MatMul, which is most of the model."""
    shifted = np.concatenate([_RANDOM.normal(size=(63, 64)) / 8, np.full((1, 64), 300.0)]).astype(np.float32)
    body = "t = Sigmoid (x) a = MatMul (t, s) m = ReduceMean <axes = [2]> (a) c = Sub (a, m) y = Sinh (c)"
    with caplog.at_level(logging.WARNING, "ort_rknn"):
        plan = made(model(body, "float[1,16,64] y", s=shifted)).plan
    assert plan.whole.problem.startswith("y off by")
    assert "whole model: not right: y off by" in str(plan)
    assert "the whole compiled model is not right on all inputs: y off by" in caplog.text
    with pytest.raises(WrongNumbers, match=r"y off by .* \(limit 0.5 %"):
        made(model(body, "float[1,16,64] y", s=shifted), strict_numbers=True)


def test_a_floor_that_fp16_has_not_moves_with_its_squares_when_zeros_show_it(made: Any) -> None:
    body = """a = MatMul (x, w) q = Mul (a, a) s = ReduceSum <keepdims = 1> (q, axis) r = Sqrt (s) f = Max (r, floor)
              n = Div (a, f) y = MatMul (n, w)"""
    plan = made(model(body, "float[1,16,64] y", axis=np.array([2]), floor=np.float32(1e-9))).plan
    said = reasons(plan)
    assert "on inputs of zeros" in said["Div"]
    assert said["MatMul"] == ""
    assert plan.whole.others == ()


def test_what_only_small_inputs_show_and_nothing_cures_is_told(made: Any) -> None:
    plan = made(
        model("a = MatMul (x, w) b = Pow (a, three) y = MatMul (b, w)", "float[1,16,64] y", three=np.float32(4))
    ).plan
    assert reasons(plan) == {"MatMul": "", "Pow": ""}
    assert plan.whole.problem == ""
    [other] = plan.whole.others
    assert other.startswith("inputs 100 times smaller: y off by")
    assert other in str(plan)


def test_inputs_that_random_numbers_cannot_be_get_tamer_ones(made: Any) -> None:
    """A size is not negative: of normal numbers the model takes none."""
    body = """n = Cast <to = 7> (size) e = Expand (one, n) s = ReduceSum <keepdims = 0> (e)
              a = MatMul (x, w) y = Mul (a, s)"""
    inputs = "float[1,16,64] x, float[1] size"
    plan = made(model(body, "float[1,16,64] y", inputs, one=np.float32([0.5]))).plan
    assert plan.whole is not None
    assert plan.npu_nodes > 0


def test_whole_numbers_must_be_equal(made: Any) -> None:
    body = "a = MatMul (x, w) b = Asinh (a) y = ArgMax <axis = 2, keepdims = 0> (b)"
    whole = made(model(body, "int64[1,16] y")).plan.whole
    assert [(one.rel_rms, one.problem) for one in whole.outputs] in ([(None, "")], [(None, whole.outputs[0].problem)])


def test_random_ops_are_not_compared(made: Any) -> None:
    body = "r = RandomNormalLike (x) a = MatMul (x, w) b = Tanh (a) y = Add (b, r)"
    assert made(model(body, "float[1,16,64] y")).plan.whole is None
