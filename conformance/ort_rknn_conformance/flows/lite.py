"""The board's NPU through the vendor's Python package rknn-toolkit-lite2: the same runtime by another door."""

from __future__ import annotations

from ort_rknn_conformance.flows import Flow

FLOW = Flow(
    name="lite",
    device="lite",
    about="this board's NPU through rknn-toolkit-lite2",
)
