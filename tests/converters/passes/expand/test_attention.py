from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.pipeline.prepare import prepare
from tests.helpers.assert_same import run_cpu
from tests.helpers.onnx_models import check_prepared, one_op, random
from tests.helpers.versions import needs_onnxruntime, needs_opset

SEES_NOTHING = needs_onnxruntime("1.28", "a row that sees nothing is zeros")
NAMES = ("q", "k", "v", "mask", "past_key", "past_value", "filled")
B, H, Q, K, D = 2, 4, 3, 5, 8


def check(
    feed: dict[str, np.ndarray], *, opset: int = 23, outputs: int = 1, constant: str = "", **options: float
) -> list[str]:
    """Prepare one Attention; ``constant`` names an input that is an initializer. Returns the op types."""
    order = [name if name in feed else "" for name in NAMES]
    while not order[-1]:
        order.pop()
    constants = {constant: feed.pop(constant)} if constant else {}
    model = one_op("Attention", feed, constants, opset=opset, order=order, outputs=outputs, **options)
    return [node.op_type for node in check_prepared(model, feed, gone=["Attention"], rtol=2e-5).graph]


def qkv(kv_heads: int = H, keys: int = K) -> dict[str, np.ndarray]:
    return {
        "q": random(B, H, Q, D),
        "k": random(B, kv_heads, keys, D, seed=1),
        "v": random(B, kv_heads, keys, 6, seed=2),
    }


MASK = np.array([[1, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)


def test_plain_is_what_the_compiler_fuses() -> None:
    assert check(qkv()) == ["Transpose", "MatMul", "Mul", "Softmax", "MatMul"]


def test_causal_rule_is_one_constant() -> None:
    assert check(qkv(), is_causal=1) == ["Transpose", "MatMul", "Mul", "Add", "Softmax", "MatMul"]


@pytest.mark.parametrize("rank", [2, 3, 4])
@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("constant", ["", "mask"])
@pytest.mark.parametrize("causal", [0, 1])
@SEES_NOTHING
def test_masks_with_a_row_that_sees_nothing(rank: int, kind: str, constant: str, causal: int) -> None:
    mask = MASK.reshape((1,) * (rank - 2) + MASK.shape)
    if kind == "float":
        mask = np.where(mask, np.float32(0.3), np.float32(-np.inf))
    check({**qkv(), "mask": mask}, constant=constant, is_causal=causal)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_heads(kv_heads: int) -> None:
    check(qkv(kv_heads))


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_flat_inputs(kv_heads: int) -> None:
    feed = {"q": random(B, Q, H * D), "k": random(B, K, kv_heads * D, seed=1), "v": random(B, K, kv_heads * 6, seed=2)}
    check(feed, q_num_heads=H, kv_num_heads=kv_heads)


def test_scale_softcap_and_precision() -> None:
    check(qkv(), scale=0.3, softcap=2.0, softmax_precision=11)


@pytest.mark.parametrize("causal", [0, 1])
def test_past_and_present(causal: int) -> None:
    feed = {**qkv(keys=3), "past_key": random(B, H, 2, D, seed=3), "past_value": random(B, H, 2, 6, seed=4)}
    check(feed, outputs=3, is_causal=causal)


@pytest.mark.parametrize("mode", [0, 1, 3])
@SEES_NOTHING
def test_scores_asked_for(mode: int) -> None:
    feed = {
        **qkv(keys=3),
        "past_key": random(B, H, 2, D, seed=3),
        "past_value": random(B, H, 2, 6, seed=4),
        "mask": MASK,
    }
    check(feed, outputs=4, qk_matmul_output_mode=mode, softcap=3.0)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", [False, True])
@SEES_NOTHING
def test_padded_keys(causal: int, mask: bool) -> None:
    feed = {**qkv(), "filled": np.array([2, 5], np.int64)}
    if mask:
        feed["mask"] = MASK
    check(feed, opset=24, is_causal=causal)


@needs_opset(24)
def test_short_mask_is_filled_up() -> None:
    filled = np.array([2, 3], np.int64)
    for mask in (MASK[:, :4], np.where(MASK[:, :3], np.float32(1), np.float32(0))):
        # onnxruntime refuses such a mask, so the standard's own reference has to tell.
        feed = {**qkv(), "mask": mask, "filled": filled}
        model = one_op("Attention", feed, opset=24, order=["q", "k", "v", "mask", "", "", "filled"])
        prepared = prepare(onnx_graph.load(model)).model
        expected = ReferenceEvaluator(model).run(None, feed)[0]
        assert "Attention" not in [node.op_type for node in prepared.graph]
        np.testing.assert_allclose(run_cpu(onnx_graph.to_proto(prepared), feed)["y"], expected, rtol=1e-5, atol=1e-6)


def test_unknown_shapes_stay() -> None:
    feed = qkv()
    model = one_op("Attention", feed, opset=23)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "S"
    check_prepared(model, feed, ops=["Attention"])


def test_scores_with_the_mask_on_them_stay() -> None:
    feed = {**qkv(keys=3), "past_key": random(B, H, 2, D, seed=3), "past_value": random(B, H, 2, 6, seed=4)}
    order = ["q", "k", "v", "", "past_key", "past_value"]
    model = one_op("Attention", feed, opset=23, order=order, outputs=4, qk_matmul_output_mode=2)
    check_prepared(model, feed, ops=["Attention"])
