from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.helpers.onnx_models import build, check_prepared, random

N, K, BLOCK = 6, 40, 16
BLOCKS = 3


def product(bits: int, *, zeros: bool = False, bias: bool = False, **attributes: Any) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.integers(0, 256, (N, BLOCKS, BLOCK * bits // 8), dtype=np.uint8),
        "scales": rng.uniform(0.01, 0.1, N * BLOCKS).astype(np.float32),
    }
    if zeros:
        constants["zeros"] = rng.integers(0, 256, N * -(-BLOCKS * bits // 8), dtype=np.uint8)
    if bias:
        constants["bias"] = random(N, seed=1)
    names = [name if name in constants else "" for name in ("w", "scales", "zeros", "order", "bias")]
    while not names[-1]:
        names.pop()
    node = helper.make_node(
        "MatMulNBits", ["x", *names], ["y"], domain="com.microsoft", N=N, K=K, bits=bits, block_size=BLOCK, **attributes
    )
    return build([node], {"x": random(2, 3, K)}, ["y"], constants, domains=["com.microsoft"])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
def test_weights_are_what_they_stand_for(bits: int, zeros: bool) -> None:
    check_prepared(product(bits, zeros=zeros), {"x": random(2, 3, K)}, ops=["MatMul"], rtol=1e-4)


def test_with_a_bias() -> None:
    check_prepared(product(4, bias=True), {"x": random(2, 3, K)}, ops=["MatMul", "Add"], rtol=1e-4)


def test_where_onnxruntime_rounds_its_input_it_stays() -> None:
    check_prepared(product(4, accuracy_level=4), {"x": random(2, 3, K)}, ops=["MatMulNBits"])
