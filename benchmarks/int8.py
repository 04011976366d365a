"""What int8 costs in accuracy, and what a promise (`max_loss`) costs in float16: the tables of docs/quantization.md.

python -m benchmarks.int8                      both models, every way: many minutes (mmse), needs the toolkit
python -m benchmarks.int8 --models digits

Each build is calibrated on some samples and measured on others, on our simulator at the compiled code's own scales,
against onnxruntime in float32. MobileNetV2 has the real topology and random weights: its labels mean nothing.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

import ort_rknn
from benchmarks.models import MODELS
from examples.digits.data import to_network, train_and_test
from ort_rknn_converters.pipeline.convert import convert

Array = NDArray[Any]

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits" / "digits.onnx"
PROMISED = re.compile(r"([\d,]+) kB +(\d+) of (\d+) layers float16")
WAYS: Mapping[str, Mapping[str, Any]] = {
    "fp16": {"precision": "fp16"},
    "int8": {},
    "int8, one scale a layer": {"quantized_method": "layer"},
    "int8, kl_divergence": {"quantized_algorithm": "kl_divergence"},
    "int8, mmse": {"quantized_algorithm": "mmse"},
    "int8, max-loss 0.001": {"max_loss": 0.001},
    "int8, max-loss 0.0003": {"max_loss": 0.0003},
    "int8, max-loss 0.0001": {"max_loss": 0.0001},
    "int8, max-loss 0.005 by top1": {"max_loss": 0.005, "metric": "top1"},
    "w4a16 (rk3576)": {"precision": "w4a16", "target": "rk3576"},
    "w4a16, groups of 32 (rk3576)": {"precision": "w4a16", "target": "rk3576", "quantized_method": "group"},
}


def scenes(count: int) -> Array:
    """Smooth random pictures with some noise, float32 [count, 1, 3, 224, 224] of 0 to 1."""
    random = np.random.default_rng(1)
    coarse = random.uniform(0, 1, (count, 1, 3, 7, 7)).repeat(32, axis=3).repeat(32, axis=4)
    return (0.8 * coarse + 0.2 * random.uniform(0, 1, coarse.shape)).astype(np.float32)


def digits() -> tuple[onnx.ModelProto, Array, Array]:
    """The trained network of ``examples/digits``, training images to calibrate on, test images to measure on."""
    train, test = (to_network(part.images)[:, np.newaxis] for part in train_and_test())
    return onnx.load(DIGITS), train[:100], test


def mobilenet() -> tuple[onnx.ModelProto, Array, Array]:
    """The same of MobileNetV2."""
    pictures = scenes(160)
    return MODELS["mobilenetv2"](), pictures[:60], pictures[60:]


SOURCES = {"digits": digits, "mobilenetv2": mobilenet}


def measure(name: str, ways: Sequence[str]) -> None:
    """Print the table of one model."""
    proto, calibration, unseen = SOURCES[name]()
    feed = proto.graph.input[0].name
    plain = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = np.concatenate([plain.run(None, {feed: one})[0] for one in unseen])
    print(f"\n{name}: calibrated on {len(calibration)} samples, measured on {len(unseen)} others\n")
    print("| build | code | float16 layers | cosine | top-1 changed | conversion |")
    print("| --- | --- | --- | --- | --- | --- |")
    for way in ways:
        began = time.perf_counter()
        fields = WAYS[way]
        with tempfile.TemporaryDirectory() as folder:
            options = {"precision": "int8", "calibration": {feed: calibration}, "known_failures": folder, **fields}
            compiled = convert(proto, min_gain=0, **options)
            seconds = time.perf_counter() - began
            path = Path(folder) / "c.onnx"
            compiled.save(path)
            session = ort_rknn.InferenceSession(path, providers=[("RKNNExecutionProvider", {"device": "simulator"})])
            found = np.concatenate([session.run(None, {feed: one})[0] for one in unseen])
        rows = [row for note in compiled.plan.notes for row in PROMISED.findall(note)]
        layers = f"{rows[-1][1]} of {rows[-1][2]}" if rows else "all" if way == "fp16" else "none chosen"
        size = sum(segment.size or 0 for segment in compiled.plan.segments)
        cosine = np.mean((expected * found).sum(1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(found, axis=1))
        changed = np.mean(expected.argmax(1) != found.argmax(1))
        cells = [way, f"{size / 1e3:,.0f} kB", layers, f"{cosine:.5f}", f"{changed:.1%}", f"{seconds:.1f} s"]
        print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(SOURCES), default=list(SOURCES))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    arguments = parser.parse_args()
    for name in arguments.models:
        measure(name, arguments.ways)


if __name__ == "__main__":
    main()
