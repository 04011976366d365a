"""Flow with every segment on onnxruntime's CPU provider: shows errors of the cut itself, free of rounding."""

from __future__ import annotations

from ort_rknn.devices.cpu import CpuDevice
from ort_rknn_conformance.flows import Flow

FLOW = Flow(
    name="cpu",
    device=lambda target: CpuDevice(),  # the name "cpu" would leave the whole model to onnxruntime, uncut
    about="no rounding: the NPU's segments run on onnxruntime's CPU provider",
    rounds=False,
)
