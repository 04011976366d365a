from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.helpers.onnx_models import check_prepared, one_op, random
from tests.helpers.versions import needs_onnxruntime

BATCH, SEQUENCE, HEADS, SIZE = 2, 5, 3, 8


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize(
    "part", [0, pytest.param(4, marks=needs_onnxruntime("1.24", "it needs no num_heads at rank 4"))]
)
@pytest.mark.parametrize("positions", [True, False])
def test_every_form(rank: int, interleaved: int, part: int, positions: bool) -> None:
    half = (part or SIZE) // 2
    x = random(BATCH, HEADS, SEQUENCE, SIZE) if rank == 4 else random(BATCH, SEQUENCE, HEADS * SIZE)
    angles = random(10 if positions else BATCH * SEQUENCE, half, seed=1)
    shape = (10, half) if positions else (BATCH, SEQUENCE, half)
    constants = {"cos": np.cos(angles).reshape(shape), "sin": np.sin(angles).reshape(shape)}
    feed = {"x": x}
    order = ["x", "cos", "sin"]
    if positions:
        feed["at"] = np.random.default_rng(2).integers(0, 10, (BATCH, SEQUENCE))
        order.append("at")
    attributes: dict[str, Any] = {"interleaved": interleaved, "rotary_embedding_dim": part}
    if rank == 3:
        attributes["num_heads"] = HEADS
    model = one_op("RotaryEmbedding", feed, constants, opset=23, order=order, **attributes)
    check_prepared(model, feed, gone=["RotaryEmbedding", "Split"])
