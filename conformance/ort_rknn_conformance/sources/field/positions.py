"""Places and sizes that a network or its caller gives: for resizing, sampling, cropping, choosing boxes, repeating."""

from __future__ import annotations

import numpy as np

from ort_rknn_conformance.sources.field.sketch import FLOAT, INT64, Made, Maker, Sketch

__all__ = ["MODELS"]


def _image(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def _features(s: Sketch, x: str, channels: int = 16) -> str:
    y = s.op("Relu", s.op("Conv", x, s.weight(channels, 3, 3, 3), pads=[1] * 4, strides=[2, 2]))
    return str(s.op("Relu", s.op("Conv", y, s.weight(channels, channels, 3, 3), pads=[1] * 4)))


def scales() -> Made:
    """A Resize by scales that are computed from a wish in pixels."""
    s = Sketch()
    y = _features(s, "x")
    ratio = s.op("Div", s.op("Mul", "wish", s.const([1.0, 1.0])), s.const([48.0, 48.0]))
    scale = s.op("Concat", s.const([1.0, 1.0]), ratio, axis=0)
    y = s.op("Resize", y, "", scale, mode="linear", coordinate_transformation_mode="asymmetric")
    model = s.model({"x": (FLOAT, [1, 3, 96, 96]), "wish": (FLOAT, [2])}, {"y": (FLOAT, [1, 16, None, None])}, [y])
    return model, [{"x": _image(1, 1, 3, 96, 96), "wish": np.full(2, size, np.float32)} for size in (64, 100, 37)]


def sizes() -> Made:
    """A Resize to sizes that are floats before they are whole numbers."""
    s = Sketch()
    y = _features(s, "x")
    size = s.op("Cast", s.op("Floor", s.op("Mul", "wish", s.const(0.1))), to=INT64)
    y = s.op("Resize", y, "", "", s.op("Concat", s.ints(1, 16), size, axis=0), mode="nearest")
    model = s.model({"x": (FLOAT, [1, 3, 64, 64]), "wish": (FLOAT, [2])}, {"y": (FLOAT, [1, 16, None, None])}, [y])
    return model, [
        {"x": _image(1, 1, 3, 64, 64), "wish": np.array(wish, np.float32)} for wish in ([640, 500], [370, 990])
    ]


def region() -> Made:
    """A Resize of a region of interest in fractions that are computed from pixels."""
    s = Sketch()
    y = _features(s, "x", 8)
    corners = s.op("Div", "box", s.const([640.0] * 4))
    corners = s.op("Reshape", corners, s.ints(2, 2))
    full = s.op("Concat", s.const([[0.0, 0.0], [1.0, 1.0]]), corners, axis=1)
    y = s.op(
        "Resize",
        y,
        s.op("Reshape", full, s.ints(8)),
        "",
        s.ints(1, 8, 96, 96),
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
    )
    model = s.model({"x": (FLOAT, [1, 3, 128, 128]), "box": (FLOAT, [4])}, {"y": (FLOAT, [1, 8, 96, 96])}, [y])
    return model, [{"x": _image(1, 1, 3, 128, 128), "box": np.array([101, 67, 533, 611], np.float32)}]


def boxes() -> Made:
    """Boxes are decoded from a head and go through NonMaxSuppression; what is kept is gathered."""
    s, count = Sketch(), 400
    y = _features(s, "x", 32)
    head = s.op("Reshape", s.op("Conv", y, s.weight(5, 32, 1, 1)), s.ints(1, 5, count))
    places, score = s.op("Split", head, s.ints(4, 1), axis=1, outputs=2)
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(20)), 0).reshape(1, 2, count) * 32.0
    centre, size = s.op("Split", s.op("Sigmoid", places), s.ints(2, 2), axis=1, outputs=2)
    centre = s.op("Add", s.op("Mul", centre, s.const(64.0)), s.const(grid))
    half = s.op("Mul", s.op("Mul", size, size), s.const(60.0))
    found = s.op("Concat", s.op("Sub", centre, half), s.op("Add", centre, half), axis=1)
    found = s.op("Transpose", found, perm=[0, 2, 1])
    score = s.op("Sigmoid", score)
    kept = s.op("NonMaxSuppression", found, score, s.ints(20), s.const([0.5]), s.const([0.52]))
    rows = s.op("Squeeze", s.op("Slice", kept, s.ints(2), s.ints(3), s.ints(1)), s.ints(1))
    best = s.op("Gather", found, rows, axis=1)
    model = s.model(
        {"x": (FLOAT, [1, 3, 40, 40])}, {"kept": (INT64, [None, 3]), "best": (FLOAT, [1, None, 4])}, [kept, best]
    )
    return model, [{"x": _image(seed, 1, 3, 40, 40)} for seed in (1, 2)]


def sampled() -> Made:
    """A picture is sampled at places that a flow in pixels gives, as optical flow and stitching do."""
    s, size = Sketch(), 128
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    base = s.const(np.stack([columns, rows], -1)[None])
    grid = s.op("Sub", s.op("Mul", s.op("Add", base, "flow"), s.const(2 / (size - 1))), s.const(1.0))
    warped = s.op("GridSample", "x", grid, mode="bilinear", padding_mode="border", align_corners=1)
    y = _features(s, warped)
    feed = {"x": _image(1, 1, 3, size, size), "flow": 4 * _image(2, 1, size, size, 2) - 2}
    model = s.model(
        {"x": (FLOAT, [1, 3, size, size]), "flow": (FLOAT, [1, size, size, 2])},
        {"y": (FLOAT, [1, 16, size // 2, size // 2]), "warped": (FLOAT, [1, 3, size, size])},
        [y, warped],
    )
    return model, [feed]


def durations() -> Made:
    """Repeats of each sound: logarithms of a network, rounded, summed up, compared with the frames."""
    s, sounds, frames = Sketch(), 40, 400
    hidden = s.op("Relu", s.op("MatMul", "x", s.weight(64, 256)))
    log = s.op("Squeeze", s.op("MatMul", hidden, s.weight(256, 1)), s.ints(2))
    often = s.op("Ceil", s.op("Mul", s.op("Exp", log), "speed"))
    often = s.op("Clip", often, s.const(1.0), s.const(12.0))
    ends = s.op("CumSum", often, s.const(1, np.int64))
    starts = s.op("Sub", ends, often)
    at = s.const(np.arange(frames)[None, :, None])
    after = s.op("GreaterOrEqual", at, s.op("Unsqueeze", starts, s.ints(1)))
    before = s.op("Less", at, s.op("Unsqueeze", ends, s.ints(1)))
    path = s.op("Cast", s.op("And", after, before), to=FLOAT)
    y = s.op("MatMul", path, hidden)
    total = s.op("Cast", s.op("ReduceSum", often, s.ints(1), keepdims=0), to=INT64)
    x = np.random.default_rng(1).standard_normal((1, sounds, 64)).astype(np.float32)
    model = s.model(
        {"x": (FLOAT, [1, sounds, 64]), "speed": (FLOAT, [1])},
        {"y": (FLOAT, [1, frames, 256]), "total": (INT64, [1])},
        [y, total],
    )
    return model, [{"x": x, "speed": np.array([speed], np.float32)} for speed in (1.0, 2.5)]


def deformed() -> Made:
    """Attention at places: references plus offsets of a network, in fractions of a map, sampled one by one."""
    s, queries, size = Sketch(), 64, 80
    offsets = s.op("Div", s.op("MatMul", "q", s.weight(64, 8)), s.const(float(size)))
    places = s.op("Add", s.op("Reshape", offsets, s.ints(1, queries, 4, 2)), s.op("Unsqueeze", "reference", s.ints(2)))
    grid = s.op("Sub", s.op("Mul", places, s.const(2.0)), s.const(1.0))
    value = s.op("Conv", "map", s.weight(32, 32, 1, 1))
    sampled = s.op("GridSample", value, grid, mode="bilinear", align_corners=0)
    weights = s.op("Softmax", s.op("MatMul", "q", s.weight(64, 4)), axis=-1)
    y = s.op("ReduceSum", s.op("Mul", sampled, s.op("Unsqueeze", weights, s.ints(1))), s.ints(3), keepdims=0)
    y = s.op("MatMul", s.op("Transpose", y, perm=[0, 2, 1]), s.weight(32, 64))
    random = np.random.default_rng(1)
    feed = {
        "q": random.standard_normal((1, queries, 64)).astype(np.float32),
        "reference": random.random((1, queries, 2)).astype(np.float32),
        "map": random.standard_normal((1, 32, size, size)).astype(np.float32),
    }
    model = s.model(
        {"q": (FLOAT, [1, queries, 64]), "reference": (FLOAT, [1, queries, 2]), "map": (FLOAT, [1, 32, size, size])},
        {"y": (FLOAT, [1, queries, 64])},
        [y],
    )
    return model, [feed]


def moved() -> Made:
    """A transform that a small network finds turns the picture: AffineGrid by hand, then sampling."""
    s, size = Sketch(), 96
    pooled = s.op("Flatten", s.op("GlobalAveragePool", _features(s, "x")))
    theta = s.op("Add", s.op("Mul", s.op("MatMul", pooled, s.weight(16, 6)), s.const(0.1)), s.const([1, 0, 0, 0, 1, 0]))
    theta = s.op("Transpose", s.op("Reshape", theta, s.ints(1, 2, 3)), perm=[0, 2, 1])
    line = np.linspace(-1, 1, size)
    base = np.stack([*np.meshgrid(line, line), np.ones((size, size))], -1).reshape(1, size * size, 3)
    grid = s.op("Reshape", s.op("MatMul", s.const(base), theta), s.ints(1, size, size, 2))
    y = _features(s, s.op("GridSample", "x", grid, mode="bilinear", align_corners=1))
    model = s.model({"x": (FLOAT, [1, 3, size, size])}, {"y": (FLOAT, [1, 16, size // 2, size // 2])}, [y])
    return model, [{"x": _image(1, 1, 3, size, size)}]


def peaks() -> Made:
    """Heat maps: a place is a peak where it equals the largest of its neighbours; the best are taken."""
    s = Sketch()
    heat = s.op("Sigmoid", s.op("Conv", _features(s, "x"), s.weight(4, 16, 1, 1)))
    near = s.op("MaxPool", heat, kernel_shape=[3, 3], pads=[1] * 4)
    peak = s.op("Cast", s.op("Equal", heat, near), to=FLOAT)
    flat = s.op("Reshape", s.op("Mul", heat, peak), s.ints(1, 4096))
    best, _ = s.op("TopK", flat, s.ints(10), outputs=2)
    model = s.model({"x": (FLOAT, [1, 3, 64, 64])}, {"best": (FLOAT, [1, 10])}, [best])
    return model, [{"x": _image(1, 1, 3, 64, 64)}]


def picked() -> Made:
    """The best tokens by a score that comes in, picked by positions that are repeated for every feature."""
    s = Sketch()
    y = s.op("Relu", s.op("MatMul", "x", s.weight(32, 32)))
    _, best = s.op("TopK", "score", s.ints(20), axis=1, outputs=2)
    places = s.op("Tile", s.op("Unsqueeze", best, s.ints(2)), s.ints(1, 1, 32))
    y = s.op("MatMul", s.op("GatherElements", y, places, axis=1), s.weight(32, 8))
    random = np.random.default_rng(1)
    feed = {
        "x": random.standard_normal((1, 100, 32)).astype(np.float32),
        "score": random.permutation(100).astype(np.float32)[None],
    }
    inputs = {"x": (FLOAT, [1, 100, 32]), "score": (FLOAT, [1, 100])}
    return s.model(inputs, {"y": (FLOAT, [1, 20, 8])}, [y]), [feed]


_ALL = (scales, sizes, region, boxes, sampled, durations, deformed, moved, peaks, picked)
MODELS: dict[str, Maker] = {one.__name__: one for one in _ALL}
