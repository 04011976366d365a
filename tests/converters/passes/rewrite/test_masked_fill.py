from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.partition import partition
from ort_rknn_converters.pipeline.convert import convert
from ort_rknn_converters.pipeline.prepare import prepare
from ort_rknn_converters.targets import find_target
from tests.helpers.onnx_models import check_prepared, random

H, L, D = 2, 6, 4
SCORES = "t = Transpose<perm=[0, 1, 3, 2]>(k) s = MatMul(q, t)"
SHARES = "p = Softmax(a) y = MatMul(p, v)"
GUARDED = "p0 = Softmax(a) n = IsNaN(p0) p = Where(n, zero, p0) y = MatMul(p, v)"


def model(body: str, low: float, *, mask: str = f"1, 1, 1, {L}", opset: int = 17) -> onnx.ModelProto:
    cube = f"float[1, {H}, {L}, {D}]"
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]> g ({cube} q, {cube} k, {cube} v, bool[{mask}] pad)
        => ({cube} y) {{ {body} }}"""
    made = parser.parse_model(text)
    for name, number in {"zero": 0.0, "low": low}.items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(number, np.float32), name))
    return onnx.shape_inference.infer_shapes(made)


def feed(pad: Any) -> dict[str, np.ndarray]:
    return {name: random(1, H, L, D, seed=seed) for seed, name in enumerate("qkv")} | {"pad": np.asarray(pad)}


PADDED = (np.arange(L) > 3)[None, None, None]
WHOLE = np.ones((1, 1, 1, L), bool)


@pytest.mark.parametrize("low", [-100, -1e3, -1e4, -1e9, float(np.finfo(np.float32).min), -np.inf])
@pytest.mark.parametrize("opset", [13, 18])
def test_any_number_and_rows_that_are_masked_as_a_whole(low: float, opset: int) -> None:
    made = model(f"{SCORES} a = Where(pad, low, s) {SHARES}", low, opset=opset)
    check_prepared(made, feed(PADDED), rtol=2e-5)
    check_prepared(made, feed(WHOLE), rtol=2e-5)
    prepared = prepare(onnx_graph.load(made)).model
    plan = partition(prepared, find_target("rk3588"), ConvertOptions(min_gain=0))
    assert len(plan.segments) == 1
    left = {node.op_type for node in plan.nodes if node.place == "CPU"}
    assert left == ({"Cast", "ReduceMin", "Where"} if np.isinf(low) else set())


@pytest.mark.parametrize("low", [-1e4, -np.inf])
def test_a_mask_of_what_is_kept(low: float) -> None:
    made = model(f"{SCORES} a = Where(pad, s, low) {SHARES}", low, mask=f"1, 1, {L}, {L}")
    keep = np.tril(np.ones((1, 1, L, L), bool))
    check_prepared(made, feed(keep), rtol=2e-5)
    keep[..., :2, :] = False
    check_prepared(made, feed(keep), rtol=2e-5)


@pytest.mark.parametrize("low", [-1e4, -np.inf])
def test_with_the_guard_that_torch_exports(low: float) -> None:
    made = model(f"{SCORES} a = Where(pad, low, s) {GUARDED}", low)
    for pad in (PADDED, WHOLE):
        check_prepared(made, feed(pad), rtol=2e-5, gone=("IsNaN", "Where"))


def test_a_mask_for_two_layers_is_written_once() -> None:
    second = "s1 = MatMul(y0, t) b = Where(pad, low, s1) p1 = Softmax(b) y = MatMul(p1, v)"
    made = model(f"{SCORES} a = Where(pad, low, s) p = Softmax(a) y0 = MatMul(p, v) {second}", -np.inf)
    prepared = check_prepared(made, feed(PADDED), rtol=2e-5)
    assert [node.op_type for node in prepared.graph].count("Not") == 1


@pytest.mark.parametrize(
    "scores",
    ["e = Cast<to=1>(pad) l = Log(e) s = Add(s0, l)", "s = Div(s0, s0)"],
)
def test_scores_that_may_be_infinite_stay(scores: str) -> None:
    product = "t = Transpose<perm=[0, 1, 3, 2]>(k) s0 = MatMul(q, t)"
    made = model(f"{product} {scores} a = Where(pad, low, s) {SHARES}", -100)
    prepared = check_prepared(made, feed(PADDED), rtol=2e-5)
    assert "Where" in [node.op_type for node in prepared.graph]


def test_a_number_that_is_seen_elsewhere_stays() -> None:
    made = model(f"{SCORES} a = Where(pad, low, s) p = Softmax(a) z = Exp(a) b = Add(p, z) y = MatMul(b, v)", -np.inf)
    prepared = check_prepared(made, feed(PADDED), rtol=2e-5)
    assert "Where" in [node.op_type for node in prepared.graph]


@pytest.mark.toolkit
@pytest.mark.parametrize("low", [-100, -np.inf])
def test_the_toolkit_compiles_it_as_one_part(low: float, tmp_path: Any) -> None:
    made = model(f"{SCORES} a = Where(pad, low, s) {SHARES}", low)
    compiled = convert(made, "rk3588", min_gain=0, known_failures=tmp_path)
    assert len(compiled.plan.segments) == 1
    assert {"Softmax", "MatMul"}.isdisjoint(node.op_type for node in compiled.plan.nodes if node.place == "CPU")
