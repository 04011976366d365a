"""The same cut, every segment on onnxruntime's CPU provider: shows errors of the cut itself, free of rounding."""

from __future__ import annotations

from ort_rknn_conformance.flows import Flow

FLOW = Flow(
    name="cpu",
    device="cpu",
    about="no NPU: the segments run on onnxruntime's CPU provider",
    rounds=False,
)
