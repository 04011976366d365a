"""Attention with masks as exporters write them."""

from __future__ import annotations

import numpy as np

from ort_rknn_conformance.sources.field.sketch import BOOL, FLOAT, Made, Maker, Sketch

__all__ = ["MODELS"]

_WIDTH, _TOKENS, _HEADS = 128, 64, 4


def _masked(kind: str, value: float) -> Made:
    s, x = Sketch(), "x"

    def heads(y: str, order: list[int]) -> str:
        split = s.op("Reshape", y, s.ints(1, _TOKENS, _HEADS, _WIDTH // _HEADS))
        return str(s.op("Transpose", split, perm=order))

    for _ in range(2):
        query, key, given = (s.op("MatMul", x, s.weight(_WIDTH, _WIDTH)) for _ in range(3))
        scores = s.op("MatMul", heads(query, [0, 2, 1, 3]), heads(key, [0, 2, 3, 1]))
        scores = s.op("Mul", scores, s.const(0.18))
        if kind == "where":
            scores = s.op("Where", "padding", s.const(value), scores)
        else:
            scores = s.op("Add", scores, s.op("Mul", s.op("Cast", "padding", to=FLOAT), s.const(value)))
        y = s.op("MatMul", s.op("Softmax", scores, axis=-1), heads(given, [0, 2, 1, 3]))
        y = s.op("Reshape", s.op("Transpose", y, perm=[0, 2, 1, 3]), s.ints(1, _TOKENS, _WIDTH))
        x = s.op("Add", x, s.op("MatMul", y, s.weight(_WIDTH, _WIDTH)))
    model = s.model(
        {"x": (FLOAT, [1, _TOKENS, _WIDTH]), "padding": (BOOL, [1, 1, 1, _TOKENS])},
        {"y": (FLOAT, [1, _TOKENS, _WIDTH])},
        [x],
    )
    feed = {
        "x": np.random.default_rng(1).standard_normal((1, _TOKENS, _WIDTH)).astype(np.float32),
        "padding": np.arange(_TOKENS)[None, None, None] > 40,
    }
    return model, [feed]


def filled() -> Made:
    """Padding by masked_fill: Where, a constant, Softmax."""
    return _masked("where", -1000.0)


def filled_by_infinity() -> Made:
    """Attention whose mask is filled with minus infinity."""
    return _masked("where", float("-inf"))


def added() -> Made:
    """Padding added to the scores."""
    return _masked("add", -1000.0)


MODELS: dict[str, Maker] = {one.__name__: one for one in (filled, filled_by_infinity, added)}
