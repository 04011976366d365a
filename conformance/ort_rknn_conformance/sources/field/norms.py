"""Means taken away, lengths divided by: what is left is small beside what was there."""

from __future__ import annotations

import numpy as np

from ort_rknn_conformance.sources.field.sketch import FLOAT, Made, Maker, Sketch

__all__ = ["MODELS"]


_SIZES = [np.float32(size) for size in (1, 1e-2, 1e-3, 0)]


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def _centre(s: Sketch, x: str, axis: int = -1) -> str:
    return str(s.op("Sub", x, s.op("ReduceMean", x, axes=[axis], keepdims=1)))


def _by_hand(s: Sketch, x: str, size: int, epsilon: float = 1e-5, axis: int = -1) -> str:
    centred = _centre(s, x, axis)
    spread = s.op("ReduceMean", s.op("Pow", centred, s.const(2.0)), axes=[axis], keepdims=1)
    y = s.op("Div", centred, s.op("Sqrt", s.op("Add", spread, s.const(epsilon))))
    shape = (size,) if axis == -1 else (size, 1, 1)
    return str(s.op("Add", s.op("Mul", y, s.weight(*shape)), s.weight(*shape)))


def centred() -> Made:
    """Temperatures around 290: a network looks at what differs from their mean."""
    s = Sketch()
    x = _centre(s, s.op("Mul", "x", s.const(1.01)))
    y = s.op("Relu", s.op("MatMul", x, s.weight(256, 256)))
    y = s.op("MatMul", y, s.weight(256, 256))
    model = s.model({"x": (FLOAT, [1, 64, 256])}, {"y": (FLOAT, [1, 64, 256]), "left": (FLOAT, [1, 64, 256])}, [y, x])
    return model, [{"x": 290 + _random(1, 64, 256)}]


def centred_features() -> Made:
    """Features with a large common part lose it before the head."""
    s = Sketch()
    y = s.op("Add", s.op("MatMul", "x", s.weight(128, 256)), s.const(60.0))
    y = s.op("Sub", y, s.op("ReduceMean", y, axes=[2], keepdims=1))
    y = s.op("MatMul", s.op("Relu", y), s.weight(256, 256))
    return s.model({"x": (FLOAT, [1, 64, 128])}, {"y": (FLOAT, [1, 64, 256])}, [y]), [{"x": _random(1, 64, 128)}]


def deviations() -> Made:
    """Prices: returns, their mean and deviation over a window, a score of each, a network."""
    s = Sketch()
    mean = s.op("ReduceMean", "x", axes=[1], keepdims=1)
    left = s.op("Sub", "x", mean)
    deviation = s.op("Sqrt", s.op("ReduceMean", s.op("Mul", left, left), axes=[1], keepdims=1))
    score = s.op("Div", left, s.op("Add", deviation, s.const(1e-8)))
    y = s.op("Relu", s.op("MatMul", score, s.weight(32, 256)))
    y = s.op("MatMul", y, s.weight(256, 128))
    feeds = [{"x": (level + scale * _random(1, 128, 32)).astype(np.float32)} for level, scale in ((100, 1), (900, 3))]
    model = s.model(
        {"x": (FLOAT, [1, 128, 32])}, {"y": (FLOAT, [1, 128, 128]), "score": (FLOAT, [1, 128, 32])}, [y, score]
    )
    return model, [*feeds, {"x": np.full((1, 128, 32), 100, np.float32)}]


def styles() -> Made:
    """Layer normalization as people write it: last axis, channels of a picture by hand, three axes at once."""
    s = Sketch()
    x = s.op("Conv", "x", s.weight(32, 3, 3, 3), pads=[1] * 4, strides=[2, 2])
    last = s.op("Transpose", x, perm=[0, 2, 3, 1])
    last = s.op("LayerNormalization", last, s.weight(32), s.weight(32), axis=-1, epsilon=1e-6)
    y = _by_hand(s, s.op("Transpose", last, perm=[0, 3, 1, 2]), 32, 1e-6, axis=1)
    y = s.op("Conv", y, s.weight(16, 32, 3, 3), pads=[1] * 4)
    y = s.op("LayerNormalization", y, s.weight(16, 16, 16), s.weight(16, 16, 16), axis=1)
    return s.model({"x": (FLOAT, [1, 3, 32, 32])}, {"y": (FLOAT, [1, 16, 16, 16])}, [y]), [{"x": _random(1, 3, 32, 32)}]


def tokens() -> Made:
    """Normalization over two axes at once by hand, and one that also gives its mean and deviation."""
    s = Sketch()
    x = s.op("MatMul", "x", s.weight(64, 64))
    left = s.op("Sub", x, s.op("ReduceMean", x, axes=[1, 2]))
    spread = s.op("ReduceMean", s.op("Mul", left, left), axes=[1, 2])
    y = s.op("Mul", left, s.op("Reciprocal", s.op("Sqrt", s.op("Add", spread, s.const(1e-5)))))
    y, mean, inverse = s.op("LayerNormalization", y, s.weight(64), s.weight(64), axis=2, outputs=3)
    y = s.op("MatMul", y, s.weight(64, 64))
    model = s.model(
        {"x": (FLOAT, [2, 10, 64])},
        {"y": (FLOAT, [2, 10, 64]), "mean": (FLOAT, [2, 10, 1]), "inverse": (FLOAT, [2, 10, 1])},
        [y, mean, inverse],
    )
    return model, [{"x": _random(2, 10, 64)}]


def cosine() -> Made:
    """Similarity of two embeddings with a floor under their lengths; also of faint ones, and of nothing."""
    s = Sketch()
    sides = []
    for name in ("a", "b"):
        y = s.op("MatMul", s.op("Relu", s.op("MatMul", name, s.weight(128, 256))), s.weight(256, 128))
        length = s.op("Sqrt", s.op("ReduceSum", s.op("Mul", y, y), s.ints(1), keepdims=1))
        sides.append(s.op("Div", y, s.op("Max", length, s.const(1e-8))))
    y = s.op("MatMul", sides[0], s.op("Transpose", sides[1], perm=[1, 0]))
    a, b = _random(16, 128), _random(16, 128)[::-1].copy()
    model = s.model({"a": (FLOAT, [16, 128]), "b": (FLOAT, [16, 128])}, {"y": (FLOAT, [16, 16])}, [y])
    return model, [{"a": a * size, "b": b * size} for size in _SIZES]


def embedded() -> Made:
    """Unit length of an embedding, as face recognizers end: ReduceL2, a floor of 1e-12, division."""
    s = Sketch()
    y = s.op("Flatten", s.op("GlobalAveragePool", s.op("Relu", s.op("Conv", "x", s.weight(64, 3, 3, 3)))))
    y = s.op("Gemm", y, s.weight(64, 128))
    y = s.op("Div", y, s.op("Clip", s.op("ReduceL2", y, axes=[1], keepdims=1), s.const(1e-12)))
    model = s.model({"x": (FLOAT, [1, 3, 32, 32])}, {"y": (FLOAT, [1, 128])}, [y])
    return model, [{"x": _random(1, 3, 32, 32) * size} for size in _SIZES]


def distances() -> Made:
    """Distances to centres by the sum of squares minus twice the product."""
    s = Sketch()
    x = s.op("MatMul", s.op("Relu", s.op("MatMul", "x", s.weight(64, 128))), s.weight(128, 32))
    centres = s.random.standard_normal((20, 32))
    own = s.op("ReduceSum", s.op("Mul", x, x), s.ints(1), keepdims=1)
    both = s.op("MatMul", x, s.const(-2 * centres.T))
    squared = s.op("Add", s.op("Add", own, both), s.const((centres**2).sum(1)[None]))
    y = s.op("Sqrt", s.op("Max", squared, s.const(0.0)))
    return s.model({"x": (FLOAT, [64, 64])}, {"y": (FLOAT, [64, 20])}, [y]), [{"x": _random(64, 64)}]


def large_channels() -> Made:
    """Three channels of a large image, normalized before the first layer."""
    s = Sketch()
    y = s.op("InstanceNormalization", "x", s.const([1.0, 1.1, 0.9]), s.const([0.0, 0.1, -0.1]))
    y = s.op("Relu", s.op("Conv", y, s.weight(8, 3, 3, 3), strides=[8, 8]))
    return s.model({"x": (FLOAT, [1, 3, 400, 400])}, {"y": (FLOAT, [1, 8, 50, 50])}, [y]), [
        {"x": _random(1, 3, 400, 400)}
    ]


_ALL = (centred, centred_features, deviations, styles, tokens, cosine, embedded, distances, large_channels)
MODELS: dict[str, Maker] = {one.__name__: one for one in _ALL}
