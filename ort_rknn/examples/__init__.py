"""Small models that come with the package: for the README's program, and for a first try on a new machine."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DIGITS", "EDGES", "EDGES_COMPILED"]

_HERE = Path(__file__).resolve().parent

EDGES = str(_HERE / "edges.onnx")
"""Finds edges of eight directions in a picture (128 x 128): large enough to pay for the trip to the NPU."""

EDGES_COMPILED = str(_HERE / "edges.rknn.onnx")
""":data:`EDGES` compiled for every SoC with a full NPU: opens on a board without the toolkit and without onnx."""

DIGITS = str(_HERE / "digits.onnx")
"""Classifies handwritten digits (8 x 8); so small that onnxruntime is faster alone."""
