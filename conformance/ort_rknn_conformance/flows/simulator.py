"""Our own simulator: onnxruntime with weights and every node's output rounded as the NPU stores them. Runs anywhere."""

from __future__ import annotations

from ort_rknn_conformance.flows import Flow

_NORMS = "our int8 rounding rounds inside a normalization, which the vendor's simulator computes as one"
XFAILS = {
    "*/mixed:node/test_layer_normalization_*_expanded*": _NORMS,
    "*/mixed:node/test_group_normalization_*_expanded": _NORMS,
    "*/mixed:node/test_rms_normalization_3d_axis_negative_1_epsilon": _NORMS,
}

FLOW = Flow(
    name="simulator",
    device="simulator",
    about="simulated: our own rounding simulator, no board",
    xfails=XFAILS,
)
