"""Numbers that stand for things: ids as floats, lengths, flags; what compares or counts with them must be exact."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ort_rknn_conformance.sources.field.sketch import BOOL, FLOAT, INT64, Made, Maker, Sketch

__all__ = ["MODELS"]


def _mlp(s: Sketch, x: str, *sizes: int) -> str:
    for before, after in pairwise(sizes):
        x = s.op("Relu", s.op("MatMul", x, s.weight(before, after)))
    return x


def equal() -> Made:
    """Ids as floats go into a network, and into an Equal with one of them."""
    s = Sketch()
    column = s.op("Unsqueeze", "ids", s.ints(-1))
    y = _mlp(s, s.op("Mul", column, s.const(1e-3)), 1, 256, 256)
    flag = s.op("Cast", s.op("Equal", column, s.const(4097.0)), to=FLOAT)
    ids = np.random.default_rng(1).choice([4095.0, 4096, 4097, 4098], (1, 256)).astype(np.float32)
    model = s.model(
        {"ids": (FLOAT, [1, 256])},
        {"y": (FLOAT, [1, 256, 256]), "flag": (FLOAT, [1, 256, 1])},
        [y, flag],
    )
    return model, [{"ids": ids}]


def one_hot() -> Made:
    """Ids as floats are made one-hot after an offset."""
    s = Sketch()
    shifted = s.op("Sub", "ids", s.const(3000.0))
    hot = s.op("OneHot", s.op("Cast", shifted, to=INT64), s.const(64, np.int64), s.const([0.0, 1.0]))
    y = _mlp(s, hot, 64, 256, 256)
    ids = np.random.default_rng(1).integers(3000, 3064, (1, 128)).astype(np.float32)
    return s.model({"ids": (FLOAT, [1, 128])}, {"y": (FLOAT, [1, 128, 256])}, [y]), [{"ids": ids}]


def embedding() -> Made:
    """Ids as floats, scaled back, choose rows of a table."""
    s = Sketch()
    row = s.op("Cast", s.op("Round", s.op("Mul", "ids", s.const(5000.0))), to=INT64)
    y = _mlp(s, s.op("Gather", s.weight(5001, 64), row), 64, 256, 256)
    ids = (np.random.default_rng(1).integers(0, 5001, (1, 128)) / 5000).astype(np.float32)
    return s.model({"ids": (FLOAT, [1, 128])}, {"y": (FLOAT, [1, 128, 256])}, [y]), [{"ids": ids}]


def lengths() -> Made:
    """Steps of a sequence behind its length, given in seconds, are masked."""
    s, steps = Sketch(), 3000
    frames = s.op("Mul", "seconds", s.const(100.0))
    mask = s.op("Less", s.const(np.arange(steps)[None]), s.op("Add", frames, s.const(0.5)))
    y = s.op("Mul", "x", s.op("Unsqueeze", s.op("Cast", mask, to=FLOAT), s.ints(2)))
    y = _mlp(s, y, 32, 128, 128)
    count = s.op("ReduceSum", s.op("Cast", mask, to=FLOAT), s.ints(1), keepdims=0)
    x = np.random.default_rng(1).standard_normal((1, steps, 32)).astype(np.float32)
    model = s.model(
        {"x": (FLOAT, [1, steps, 32]), "seconds": (FLOAT, [1, 1])},
        {"y": (FLOAT, [1, steps, 128]), "count": (FLOAT, [1])},
        [y, count],
    )
    return model, [{"x": x, "seconds": np.array([[value]], np.float32)} for value in (20.53, 25.01, 29.99)]


def segments() -> Made:
    """Tokens see those of their own part only: part numbers as floats, compared pair by pair."""
    s, tokens = Sketch(), 64
    scaled = s.op("Mul", "part", s.const(1.0))
    same = s.op("Equal", s.op("Unsqueeze", scaled, s.ints(1)), s.op("Unsqueeze", s.op("Identity", scaled), s.ints(2)))
    query, key = (s.op("MatMul", "x", s.weight(64, 64)) for _ in range(2))
    scores = s.op("Mul", s.op("MatMul", query, s.op("Transpose", key, perm=[0, 2, 1])), s.const(0.125))
    weights = s.op("Softmax", s.op("Where", same, scores, s.const(-1e4)), axis=-1)
    y = s.op("MatMul", weights, s.op("MatMul", "x", s.weight(64, 64)))
    random = np.random.default_rng(1)
    feed = {
        "x": random.standard_normal((1, tokens, 64)).astype(np.float32),
        "part": np.repeat(np.arange(20000, 20008), 8)[None].astype(np.float32),
    }
    model = s.model({"x": (FLOAT, [1, tokens, 64]), "part": (FLOAT, [1, tokens])}, {"y": (FLOAT, [1, tokens, 64])}, [y])
    return model, [feed]


def missing() -> Made:
    """A value that stands for "not known" is found and replaced before the network."""
    s = Sketch()
    unknown = s.op("Equal", s.op("Reshape", "x", s.ints(1, 64, 32)), s.const(-9999.0))
    known = s.op("Where", unknown, s.const(0.0), s.op("Reshape", "x", s.ints(1, 64, 32)))
    y = _mlp(s, known, 32, 256, 256)
    x = np.random.default_rng(1).standard_normal((1, 2048)).astype(np.float32)
    x[0, ::7], x[0, 1::7] = -9999, -9998
    model = s.model(
        {"x": (FLOAT, [1, 2048])}, {"y": (FLOAT, [1, 64, 256]), "unknown": (BOOL, [1, 64, 32])}, [y, unknown]
    )
    return model, [{"x": x}]


def parity() -> Made:
    """Remainders of large numbers as floats."""
    s = Sketch()
    odd = s.op("Mod", s.op("Add", "ids", s.const(1.0)), s.const(2.0), fmod=1)
    y = _mlp(s, s.op("Unsqueeze", odd, s.ints(-1)), 1, 128, 128)
    ids = np.random.default_rng(1).integers(0, 60000, (1, 128)).astype(np.float32)
    model = s.model({"ids": (FLOAT, [1, 128])}, {"y": (FLOAT, [1, 128, 128]), "odd": (FLOAT, [1, 128])}, [y, odd])
    return model, [{"ids": ids}]


def time_step() -> Made:
    """Sines and cosines of a time step up to 1000, as diffusion models embed it."""
    s = Sketch()
    rates = s.const(np.exp(-np.arange(64) * np.log(10000) / 64)[None])
    angles = s.op("Mul", s.op("Unsqueeze", "step", s.ints(1)), rates)
    y = s.op("Concat", s.op("Cos", angles), s.op("Sin", angles), axis=1)
    y = _mlp(s, y, 128, 512, 512)
    model = s.model({"step": (FLOAT, [4])}, {"y": (FLOAT, [4, 512])}, [y])
    return model, [{"step": np.array([999, 741, 333, 1], np.float32)}]


MODELS: dict[str, Maker] = {
    one.__name__: one for one in (equal, one_hot, embedding, lengths, segments, missing, parity, time_step)
}
