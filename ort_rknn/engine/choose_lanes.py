"""Which lanes serve a program: native ones where the device and the native library allow it, else Python threads."""

from __future__ import annotations

from ort_rknn.engine.lanes.base import LaneOpener, Lanes, LaneSetup
from ort_rknn.engine.lanes.threads import ThreadLanes

__all__ = ["best_lanes"]


def best_lanes(program: LaneOpener, setup: LaneSetup) -> Lanes:
    """Make lanes."""
    if getattr(getattr(program, "device", None), "native_lanes", False):
        from ort_rknn.engine.lanes.native import NativeLanes

        return NativeLanes(program, setup)
    return ThreadLanes(program, setup)
