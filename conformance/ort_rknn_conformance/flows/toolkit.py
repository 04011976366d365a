"""The vendor's simulator in a child process: what rknn-toolkit2 itself makes of a segment. Slow, and the reference."""

from __future__ import annotations

from ort_rknn_conformance.flows import Flow

FLOW = Flow(
    name="toolkit",
    device="toolkit",
    about="simulated: the vendor's simulator (rknn-toolkit2), no board",
    lacks={
        "*/mixed": "the vendor's simulator compiles anew and does not know which layers stayed fp16; take simulator"
    },
)
