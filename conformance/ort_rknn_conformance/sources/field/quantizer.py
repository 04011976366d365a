"""Models as onnxruntime's own quantizers write them: pairs, integer ops, and products rounded at run time."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ort_rknn_conformance.sources.field.sketch import FLOAT, INT64, Made, Maker, Sketch

__all__ = ["MODELS"]

_WIDTH, _TOKENS, _HEADS = 64, 32, 4
_SAMPLES = 4

Feed = Mapping[str, NDArray[Any]]


def _linear(s: Sketch, x: str, taken: int, made: int) -> str:
    weight = s.const(s.random.standard_normal((taken, made)) / np.sqrt(taken))
    return str(s.op("Add", s.op("MatMul", x, weight), s.const(0.1 * s.random.standard_normal(made))))


def _norm(s: Sketch, x: str) -> str:
    scale, bias = (s.const(one + 0.1 * s.random.standard_normal(_WIDTH)) for one in (1, 0))
    return str(s.op("LayerNormalization", x, scale, bias, axis=-1))


def _gelu(s: Sketch, x: str) -> str:
    steps = s.op("Add", s.op("Erf", s.op("Div", x, s.const(np.sqrt(2)))), s.const(1.0))
    return str(s.op("Mul", s.op("Mul", x, steps), s.const(0.5)))


def _attention(s: Sketch, x: str, mask: str) -> str:
    def heads(y: str, order: list[int]) -> str:
        split = s.op("Reshape", y, s.ints(1, _TOKENS, _HEADS, _WIDTH // _HEADS))
        return str(s.op("Transpose", split, perm=order))

    query, key, given = (_linear(s, x, _WIDTH, _WIDTH) for _ in range(3))
    scores = s.op("MatMul", heads(query, [0, 2, 1, 3]), heads(key, [0, 2, 3, 1]))
    scores = s.op("Div", scores, s.const(np.sqrt(_WIDTH // _HEADS)))
    scores = s.op("Add", scores, mask) if mask else scores
    y = s.op("MatMul", s.op("Softmax", scores, axis=-1), heads(given, [0, 2, 1, 3]))
    y = s.op("Reshape", s.op("Transpose", y, perm=[0, 2, 1, 3]), s.ints(1, _TOKENS, _WIDTH))
    return _linear(s, y, _WIDTH, _WIDTH)


def _text(*, masked: bool) -> Made:
    """A BERT of two layers."""
    s = Sketch()
    x = s.op("Gather", s.const(s.random.standard_normal((100, _WIDTH))), "ids", axis=0)
    x = _norm(s, s.op("Add", x, s.const(0.1 * s.random.standard_normal((1, _TOKENS, _WIDTH)))))
    mask = ""
    if masked:
        kept = s.op("Unsqueeze", s.op("Cast", "mask", to=FLOAT), s.ints(1, 2))
        mask = s.op("Mul", s.op("Sub", s.const(1.0), kept), s.const(-10000.0))
    for _ in range(2):
        x = _norm(s, s.op("Add", x, _attention(s, x, mask)))
        inner = _gelu(s, _linear(s, x, _WIDTH, 4 * _WIDTH))
        x = _norm(s, s.op("Add", x, _linear(s, inner, 4 * _WIDTH, _WIDTH)))
    first = s.op("Gather", x, s.const(0, np.int64), axis=1)
    first = s.op("Tanh", s.op("Gemm", first, s.weight(_WIDTH, _WIDTH), s.weight(_WIDTH), transB=1))
    shape = [1, _TOKENS]
    inputs = {"ids": (INT64, shape)} | ({"mask": (INT64, shape)} if masked else {})
    random = np.random.default_rng(1)
    feeds: list[dict[str, NDArray[Any]]] = []
    for number in range(_SAMPLES):
        feed = {"ids": random.integers(0, 100, (1, _TOKENS)), "mask": np.arange(_TOKENS)[None] < 20 + number}
        feeds.append({name: feed[name].astype(np.int64) for name in inputs})
    return s.model(inputs, {"y": (FLOAT, [1, _TOKENS, _WIDTH]), "first": (FLOAT, [1, _WIDTH])}, [x, first]), feeds


def _rows() -> Made:
    """Three layers on rows that come in."""
    s, x = Sketch(), "x"
    for _ in range(2):
        x = s.op("Relu", _linear(s, x, _WIDTH, _WIDTH))
    random = np.random.default_rng(1)
    feeds = [{"x": random.standard_normal((8, _WIDTH)).astype(np.float32)} for _ in range(_SAMPLES)]
    return s.model({"x": (FLOAT, [8, _WIDTH])}, {"y": (FLOAT, [8, _WIDTH])}, [_linear(s, x, _WIDTH, _WIDTH)]), feeds


def _pictures() -> Made:
    """Every kind of layer that has an integer form."""
    s = Sketch()

    def conv(x: str, made: int, *shape: int, **attributes: Any) -> str:
        bias = s.const(0.1 * s.random.standard_normal(made))
        return str(s.op("Conv", x, s.weight(made, *shape), bias, pads=[shape[-1] // 2] * 4, **attributes))

    x = s.op("MaxPool", s.op("Relu", conv("x", 16, 3, 3, 3, strides=[2, 2])), kernel_shape=[2, 2], strides=[2, 2])
    y = s.op("LeakyRelu", conv(x, 16, 16, 3, 3), alpha=0.1)
    x = s.op("Add", x, conv(y, 16, 1, 3, 3, group=16))
    x = s.op("Mul", x, s.op("Sigmoid", conv(x, 16, 16, 1, 1)))
    x = s.op("Concat", x, s.op("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4), axis=1)
    x = s.op("Flatten", s.op("GlobalAveragePool", x))
    x = s.op("Softmax", s.op("Gemm", x, s.weight(10, 32), s.weight(10), transB=1), axis=1)
    random = np.random.default_rng(1)
    feeds = [{"x": random.standard_normal((1, 3, 64, 64)).astype(np.float32)} for _ in range(_SAMPLES)]
    return s.model({"x": (FLOAT, [1, 3, 64, 64])}, {"y": (FLOAT, [1, 10])}, [x]), feeds


class _Samples:
    """Calibration data, as the quantizer asks for them."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._left: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._left, None)


def _quantized(make: Callable[[], Made], how: str, **options: Any) -> Made:
    """``how``: QDQ, QOperator, or dynamic."""
    from onnxruntime import quantization  # slow to import

    model, feeds = make()
    logging.disable(logging.WARNING)  # it advises to preprocess
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "quantized.onnx"
            if how == "dynamic":
                quantization.quantize_dynamic(model, file, **options)
            else:
                form = quantization.QuantFormat[how]
                quantization.quantize_static(model, file, _Samples(feeds), quant_format=form, **options)
            return onnx.load(file), feeds[:2]
    finally:
        logging.disable(logging.NOTSET)


MODELS: dict[str, Maker] = {
    "text_pairs": partial(_quantized, partial(_text, masked=True), "QDQ"),
    "text_pairs_by_channel": partial(_quantized, partial(_text, masked=True), "QDQ", per_channel=True),
    "text_pairs_without_mask": partial(_quantized, partial(_text, masked=False), "QDQ"),
    "text_integer_ops": partial(_quantized, partial(_text, masked=True), "QOperator"),
    "text_at_run_time": partial(_quantized, partial(_text, masked=True), "dynamic"),
    "rows_pairs": partial(_quantized, _rows, "QDQ"),
    "pictures_integer_ops": partial(_quantized, _pictures, "QOperator", per_channel=True),
    "pictures_at_run_time": partial(_quantized, _pictures, "dynamic"),
}
