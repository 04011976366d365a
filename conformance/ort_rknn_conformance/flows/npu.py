"""The board's own NPU through the vendor's librknnrt: what all the others stand in for."""

from __future__ import annotations

from ort_rknn_conformance.flows import Flow

FLOW = Flow(
    name="npu",
    device="npu",
    about="this board's NPU",
)
