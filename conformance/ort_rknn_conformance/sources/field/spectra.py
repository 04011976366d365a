"""Sound: frames, transforms, powers, logarithms; at recording levels from loud to silence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn_conformance.sources.field.sketch import FLOAT, Made, Maker, Sketch

__all__ = ["MODELS"]

_LEVELS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 0.0)


def _recording(samples: int, seed: int = 1) -> NDArray[Any]:
    """Two tones and a little noise."""
    time = np.arange(samples)
    noise = np.random.default_rng(seed).standard_normal(samples) * 1e-3
    return np.asarray(np.sin(time * 0.05) * 0.2 + np.sin(time * 0.43) * 0.05 + noise)


def _at_all_levels(samples: int) -> list[dict[str, NDArray[Any]]]:
    return [{"wave": (_recording(samples) * level).astype(np.float32)[None]} for level in _LEVELS]


def _transform(size: int, bins: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Windowed cosines and sines."""
    angle = np.arange(size)[:, None] * np.arange(bins)[None] * 2 * np.pi / size
    window = np.hanning(size)[:, None]
    return np.cos(angle) * window, np.sin(angle) * window


def _filters(bins: int, bands: int) -> NDArray[Any]:
    """Triangles over the bins, wider the higher they are."""
    edges = np.geomspace(1, bins - 1, bands + 2)
    at = np.arange(bins)[:, None]
    rise, fall = (at - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - at) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(rise, fall)) + 1e-3


def _net(s: Sketch, spectrum: str, channels: int) -> str:
    """A small network on a spectrum [1, frames, channels]."""
    y = s.op("Relu", s.op("MatMul", spectrum, s.weight(channels, 128)))
    y = s.op("Relu", s.op("MatMul", y, s.weight(128, 128)))
    return str(s.op("MatMul", s.op("ReduceMean", y, axes=[1], keepdims=0), s.weight(128, 4)))


def _framed(s: Sketch, frames: int, hop: int) -> str:
    """Frames of two hops, [1, frames, 2 * hop]."""
    first, second = (
        s.op("Reshape", s.op("Slice", "wave", s.ints(a), s.ints(a + frames * hop), s.ints(1)), s.ints(1, frames, hop))
        for a in (0, hop)
    )
    return str(s.op("Concat", first, second, axis=2))


def log_power() -> Made:
    """Frames, transform by MatMul, power, a floor, logarithm, network: what scores speech quality."""
    s, frames, hop = Sketch(), 96, 128
    x = _framed(s, frames, hop)
    cosine, sine = _transform(2 * hop, hop + 1)
    parts = [s.op("Pow", s.op("MatMul", x, s.const(one)), s.const(2.0)) for one in (cosine, sine)]
    y = _net(s, s.op("Log", s.op("Max", s.op("Add", *parts), s.const(1e-12))), hop + 1)
    samples = (frames + 1) * hop
    return s.model({"wave": (FLOAT, [1, samples])}, {"score": (FLOAT, [1, 4])}, [y]), _at_all_levels(samples)


def mel() -> Made:
    """Transform by a strided Conv, power, a bank of filters, logarithm to the base of 10: what recognizes speech."""
    s, size, hop, frames = Sketch(), 256, 128, 64
    samples = (frames - 1) * hop + size
    cosine, sine = _transform(size, size // 2 + 1)
    kernel = s.const(np.concatenate([cosine, sine], axis=1).T[:, None])
    x = s.op("Conv", s.op("Unsqueeze", "wave", s.ints(1)), kernel, strides=[hop])
    real, imaginary = s.op("Split", x, s.ints(size // 2 + 1, size // 2 + 1), axis=1, outputs=2)
    power = s.op("Add", s.op("Mul", real, real), s.op("Mul", imaginary, imaginary))
    bands = s.op("MatMul", s.op("Transpose", power, perm=[0, 2, 1]), s.const(_filters(size // 2 + 1, 40)))
    log = s.op("Mul", s.op("Log", s.op("Clip", bands, s.const(1e-10))), s.const(1 / np.log(10)))
    log = s.op("Max", log, s.op("Sub", s.op("ReduceMax", log, keepdims=1), s.const(8.0)))
    y = _net(s, s.op("Div", s.op("Add", log, s.const(4.0)), s.const(4.0)), 40)
    return s.model({"wave": (FLOAT, [1, samples])}, {"y": (FLOAT, [1, 4])}, [y]), _at_all_levels(samples)


def log_magnitude() -> Made:
    """Logarithm of magnitudes with a floor that fp16 can hold."""
    s, frames, hop = Sketch(), 64, 128
    x = _framed(s, frames, hop)
    cosine, sine = _transform(2 * hop, hop + 1)
    real, imaginary = (s.op("MatMul", x, s.const(one)) for one in (cosine, sine))
    size = s.op("Sqrt", s.op("Add", s.op("Mul", real, real), s.op("Mul", imaginary, imaginary)))
    y = _net(s, s.op("Log", s.op("Add", size, s.const(1e-6))), hop + 1)
    samples = (frames + 1) * hop
    return s.model({"wave": (FLOAT, [1, samples])}, {"y": (FLOAT, [1, 4])}, [y]), _at_all_levels(samples)


def compressed() -> Made:
    """Magnitudes to the power of 0.3 in place of a logarithm: what removes noise."""
    s, frames, hop = Sketch(), 64, 128
    x = _framed(s, frames, hop)
    cosine, sine = _transform(2 * hop, hop + 1)
    real, imaginary = (s.op("MatMul", x, s.const(one)) for one in (cosine, sine))
    power = s.op("Add", s.op("Mul", real, real), s.op("Mul", imaginary, imaginary))
    y = _net(s, s.op("Pow", s.op("Add", power, s.const(1e-12)), s.const(0.15)), hop + 1)
    samples = (frames + 1) * hop
    return s.model({"wave": (FLOAT, [1, samples])}, {"y": (FLOAT, [1, 4])}, [y]), _at_all_levels(samples)


def short_time() -> Made:
    """The STFT op, sums of squares, a bank of filters, logarithm."""
    s, size, hop, samples = Sketch(), 64, 16, 640
    frames, bins = 1 + (samples - size) // hop, size // 2 + 1
    x = s.op("STFT", "wave", s.const(hop, np.int64), s.const(np.hanning(size)))
    power = s.op("ReduceSumSquare", x, axes=[-1], keepdims=0)
    bands = s.op("MatMul", power, s.const(_filters(bins, 24)))
    y = _net(s, s.op("Log", s.op("Add", bands, s.const(1e-9))), 24)
    assert frames == 37
    return s.model({"wave": (FLOAT, [1, samples])}, {"y": (FLOAT, [1, 4])}, [y]), _at_all_levels(samples)


def loudness() -> Made:
    """Level of each frame in decibels, straight from the samples, beside a network on the same frames."""
    s, frames, hop = Sketch(), 64, 160
    x = s.op("Reshape", "wave", s.ints(1, frames, hop))
    mean = s.op("ReduceMean", s.op("Mul", x, x), axes=[2], keepdims=1)
    level = s.op("Mul", s.op("Log", s.op("Add", mean, s.const(1e-10))), s.const(10 / np.log(10)))
    y = _net(s, x, hop)
    model = s.model(
        {"wave": (FLOAT, [1, frames * hop])}, {"level": (FLOAT, [1, frames, 1]), "y": (FLOAT, [1, 4])}, [level, y]
    )
    return model, _at_all_levels(frames * hop)


def wave() -> Made:
    """Learnt filters of 400 samples every 160, straight on a second of sound."""
    s = Sketch()
    y = s.op("Relu", s.op("Conv", "wave", s.weight(32, 1, 400), s.const(np.zeros(32)), strides=[160], pads=[200, 200]))
    y = s.op("Relu", s.op("Conv", y, s.weight(32, 32, 3), strides=[2]))
    feed = {"wave": np.random.default_rng(1).standard_normal((1, 1, 16000)).astype(np.float32)}
    return s.model({"wave": (FLOAT, [1, 1, 16000])}, {"y": (FLOAT, [1, 32, 50])}, [y]), [feed]


_ALL = (log_power, mel, log_magnitude, compressed, short_time, loudness, wave)
MODELS: dict[str, Maker] = {one.__name__: one for one in _ALL}
