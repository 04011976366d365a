"""Makes the package's example: a network that finds edges, of weights that follow from a formula, and compiles it.

python examples/edges/make.py        # writes ort_rknn/examples/edges.onnx and edges.rknn.onnx; needs the toolkit

Gabor filters of eight directions, two wave lengths and both signs; a layer in which neighbouring directions agree and
others inhibit each other; one map a direction. Half a billion multiplications cost an NPU little and a CPU much.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).resolve().parents[2] / "ort_rknn" / "examples"
TARGETS = "rk3588,rk3576,rk3566,rk3568,rk3562,rv1126b"
SIZE = 128  # pixels a side: the NPU is worth the trip by every SoC's records
DIRECTIONS = 8
KINDS = ((4, 1), (4, -1), (6, 1), (6, -1))  # wave length in pixels, sign
GREY = np.array([0.299, 0.587, 0.114])
AGREE = {0: 0.5, 1: 0.15, 2: -0.02}
INHIBIT = -0.03


def gabor(angle: float, wave: float, size: int = 7) -> NDArray[np.float64]:
    reach = size // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    along = x * np.cos(angle) + y * np.sin(angle)
    kernel = np.exp(-(x * x + y * y) / (2 * (size / 3.5) ** 2)) * np.sin(2 * np.pi * along / wave)
    return np.asarray(kernel / np.abs(kernel).sum())


def weights() -> dict[str, NDArray[np.float32]]:
    channels = DIRECTIONS * len(KINDS)
    first = np.zeros((channels, 3, 7, 7), np.float32)
    for direction in range(DIRECTIONS):
        for kind, (wave, sign) in enumerate(KINDS):
            kernel = gabor(np.pi * direction / DIRECTIONS, wave)
            first[direction * len(KINDS) + kind] = GREY[:, None, None] * sign * kernel
    blur = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1]) / 81
    second = np.zeros((channels, channels, 5, 5), np.float32)
    for out in range(channels):
        for into in range(channels):
            apart = (out // 4 - into // 4) % DIRECTIONS
            same_wave = 1.0 if out % 4 // 2 == into % 4 // 2 else 0.25
            second[out, into] = blur * same_wave * AGREE.get(min(apart, DIRECTIONS - apart), INHIBIT)
    third = np.zeros((DIRECTIONS, channels, 1, 1), np.float32)
    for direction in range(DIRECTIONS):
        third[direction, direction * len(KINDS) : (direction + 1) * len(KINDS)] = 0.5
    return {"w1": first, "w2": second, "w3": third}


def build() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], "gabor", pads=[3] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "rectify"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "agree", pads=[2] * 4),
        helper.make_node("Relu", ["c2"], ["r2"], "keep"),
        helper.make_node("Conv", ["r2", "w3"], ["edges"], "orientations"),
    ]
    graph = helper.make_graph(
        nodes,
        "edges",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("edges", TensorProto.FLOAT, [1, DIRECTIONS, SIZE, SIZE])],
        [numpy_helper.from_array(value, name) for name, value in weights().items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    onnx.save(build(), FOLDER / "edges.onnx")
    code = "from ort_rknn.cli import main; main()"
    command = [sys.executable, "-c", code, "convert", FOLDER / "edges.onnx", "-o", FOLDER / "edges.rknn.onnx"]
    subprocess.run([*command, "--target", TARGETS], check=True)


if __name__ == "__main__":
    main()
