"""Our own simulator: onnxruntime with weights and every node's output rounded as the NPU stores them. Runs anywhere."""

from __future__ import annotations

from ort_rknn_conformance.flows import Flow

FLOW = Flow(
    name="simulator",
    device="simulator",
    about="simulated: our own rounding simulator, no board",
)
