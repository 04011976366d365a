"""Device ``npu`` on the tests' emulated runtime, with our simulator's arithmetic: all of the way but the silicon."""

from __future__ import annotations

from ort_rknn.devices.settings import NpuSettings
from ort_rknn_conformance.flows import Flow
from ort_rknn_conformance.flows.emulated_device import EmulatedNpu
from ort_rknn_conformance.flows.simulator import XFAILS

FLOW = Flow(
    name="emulated",
    device=lambda target: EmulatedNpu(NpuSettings(target=target)),
    about="emulated: the vendor's interface without its NPU, our own arithmetic, no board",
    xfails=XFAILS,
)
