from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.partition import partition
from ort_rknn_converters.targets import find_target
from tests.helpers.onnx_models import check_prepared, random

H, L, D = 2, 6, 4
LOWEST = float(np.finfo(np.float32).min)
SCORES = "t = Transpose<perm=[0, 1, 3, 2]>(k) s0 = MatMul(q, t) s = Mul(s0, scale)"
GUARDED = "p0 = Softmax(a) n = IsNaN(p0) p = Where(n, zero, p0) y = MatMul(p, v)"
PLAIN = "p = Softmax(a) y = MatMul(p, v)"


def causal(*, padded: int = 2) -> np.ndarray:
    """Each query sees what is before it, and no padding in front: the first rows see nothing at all."""
    keep = np.tril(np.ones((1, 1, L, L), bool))
    keep[..., :padded] = False
    return keep


def model(
    body: str, *, low: float = LOWEST, outputs: str = f"float[1, {H}, {L}, {D}] y", opset: int = 17, **more: float
):
    cube = f"float[1, {H}, {L}, {D}]"
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]> g (
        {cube} q, {cube} k, {cube} v, bool[1, 1, {L}, {L}] keep) => ({outputs}) {{ {body} }}"""
    made = parser.parse_model(text)
    for name, number in {"scale": 0.5, "zero": 0.0, "low": low, **more}.items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(number, np.float32), name))
    return onnx.shape_inference.infer_shapes(made)


def feed(keep: np.ndarray | None = None) -> dict[str, np.ndarray]:
    cubes = {name: random(1, H, L, D, seed=seed) for seed, name in enumerate("qkv")}
    return {**cubes, "keep": causal() if keep is None else keep}


def constants(prepared: ir.Model) -> Mapping[str, float]:
    values = {value.name: value.const_value for value in prepared.graph.initializers.values()}
    return {str(name): float(tensor.numpy().min()) for name, tensor in values.items() if tensor is not None}


def check(made: onnx.ModelProto, *, soft: bool = True, gone: tuple[str, ...] = ()) -> ir.Model:
    """Prepare it: equal answers with and without rows that see nothing, and constants as they should be."""
    check_prepared(made, feed(causal(padded=0)), rtol=2e-5)
    prepared = check_prepared(made, feed(), gone=gone, rtol=2e-5)
    assert (min(constants(prepared).values()) > -65504) == soft
    return prepared


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_the_lowest_number_added(opset: int) -> None:
    prepared = check(model(f"{SCORES} m = Where(keep, zero, low) a = Add(s, m) {PLAIN}", opset=opset))
    # The queries are multiplied, not the scores: what the compiler fuses stays together.
    product = next(node for node in prepared.graph if node.op_type == "MatMul")
    assert product.inputs[0] is not None
    assert product.inputs[0].producer() is not None
    following = [node.op_type for node in product.outputs[0].consumers()]
    assert following == ["Mul"]


@pytest.mark.parametrize("low", [-1e9, -1e6, -65504])
def test_other_large_numbers(low: float) -> None:
    made = model(f"{SCORES} m = Where(keep, zero, low) a = Add(s, m) {PLAIN}", low=low)
    # How much of the scores is lost in a row that sees nothing depends on the number.
    swallowed = low < -1e8
    prepared = check_prepared(made, feed(causal(padded=2 if swallowed else 0)), rtol=2e-5)
    assert min(constants(prepared).values()) > -16000
    assert ("ReduceMax" in [node.op_type for node in prepared.graph]) == swallowed


def test_one_mask_for_two_layers_is_asked_once() -> None:
    second = "s1 = MatMul(y0, t) b = Add(m, s1) p1 = Softmax(b) y = MatMul(p1, v)"
    body = f"{SCORES} m = Where(keep, zero, low) a = Add(s, m) p = Softmax(a) y0 = MatMul(p, v) {second}"
    prepared = check(model(body))
    assert [node.op_type for node in prepared.graph].count("ReduceMax") == 1


def test_with_a_bias_beside_the_mask() -> None:
    body = (
        f"{SCORES} m = Where(keep, zero, low) bias = Sin(k) turned = MatMul(bias, t) w = Add(turned, m) a = Add(s, w)"
    )
    check(model(f"{body} {PLAIN}"))


def test_scores_that_are_more_than_a_product() -> None:
    check(model(f"{SCORES} m = Where(keep, zero, low) e = Exp(s) a = Add(e, m) {PLAIN}"))


def test_scores_whose_heads_are_joined_with_the_batch() -> None:
    joined = "w = Add(s, m) a = Reshape(w, joined) p0 = Softmax(a) p = Reshape(p0, apart)"
    made = model(f"{SCORES} m = Where(keep, zero, low) {joined} y = MatMul(p, v)")
    for name, shape in {"joined": (H, L, L), "apart": (1, H, L, L)}.items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape), name))
    check(made)


def test_product_of_zeros_and_ones_with_the_lowest_number() -> None:
    check(model(f"{SCORES} f0 = Not(keep) f = Cast<to=1>(f0) m = Mul(f, low) a = Add(s, m) {PLAIN}"))


def test_selected_scores_need_no_more_than_another_number() -> None:
    prepared = check(model(f"{SCORES} a = Where(keep, s, low) {PLAIN}"))
    assert "ReduceMax" not in [node.op_type for node in prepared.graph]


@pytest.mark.parametrize("low", [-np.inf, LOWEST])
def test_guarded_as_torch_exports_it(low: float) -> None:
    prepared = check(model(f"{SCORES} m = Where(keep, zero, low) a = Add(s, m) {GUARDED}", low=low), gone=("IsNaN",))
    plan = partition(prepared, find_target("rk3588"), ConvertOptions(min_gain=0))
    assert len(plan.segments) == 1
    assert plan.npu_nodes == len(plan.nodes)


def test_guarded_shares_that_are_read_twice() -> None:
    body = f"{SCORES} m = Where(keep, zero, low) a = Add(s, m) {GUARDED} z = Exp(p)"
    outputs = f"float[1, {H}, {L}, {D}] y, float[1, {H}, {L}, {L}] z"
    check(model(body, low=-np.inf, outputs=outputs), gone=("IsNaN",))


def test_a_guard_without_a_mask() -> None:
    prepared = check_prepared(model(f"{SCORES} a = Tanh(s) {GUARDED}", low=0), feed(), gone=["IsNaN", "Where"])
    assert [node.op_type for node in prepared.graph][-2:] == ["Softmax", "MatMul"]


def test_a_guard_over_what_may_be_infinite_stays() -> None:
    body = f"{SCORES} e = Cast<to=1>(keep) l = Log(e) a = Add(s, l) {GUARDED}"
    prepared = check_prepared(model(body, low=0), feed(), rtol=2e-5)
    assert "IsNaN" in [node.op_type for node in prepared.graph]


@pytest.mark.parametrize(
    ("body", "low"),
    [
        (f"{SCORES} m = Where(keep, zero, low) a = Add(s, m) {PLAIN} z = Exp(m)", LOWEST),  # the mask is seen
        (f"{SCORES} m = Where(keep, zero, low) a = Add(s, m) {PLAIN} z = Exp(a)", LOWEST),
        (f"{SCORES} m = Where(keep, zero, low) a = Add(s, m) {PLAIN} z = Exp(s)", -np.inf),  # NaN is the answer
        (
            f"{SCORES} m = Where(keep, zero, low) a = Add(s, m) p = LogSoftmax(a) y = MatMul(p, v) z = Abs(s)",
            LOWEST,
        ),
    ],
)
def test_masks_that_stay(body: str, low: float) -> None:
    outputs = f"float[1, {H}, {L}, {D}] y, float[z0, z1, z2, z3] z"
    check(model(body, low=low, outputs=outputs), soft=False)


def test_a_constant_mask_with_something_to_see_in_each_row() -> None:
    made = model(
        f"{SCORES} a = Add(s, m) {PLAIN} z = Not(keep)", outputs=f"float[1, {H}, {L}, {D}] y, bool[1,1,{L},{L}] z"
    )
    mask = np.triu(np.full((1, 1, L, L), -np.inf, np.float32), 1)
    made.graph.initializer.append(onnx.numpy_helper.from_array(mask, "m"))
    prepared = check(made)
    assert "ReduceMax" not in [node.op_type for node in prepared.graph]


def test_not_where_the_softmax_shall_stay_on_the_cpu() -> None:
    made = model(f"{SCORES} m = Where(keep, zero, low) a = Add(s, m) {PLAIN}")
    prepared = check_prepared(made, feed(), rtol=2e-5, cpu_ops=frozenset({"Softmax"}))
    assert min(constants(prepared).values()) == LOWEST
    assert onnx_graph.to_proto(prepared).graph.node
