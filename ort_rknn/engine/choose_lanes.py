"""Which lanes serve a program: native ones where the device and the native library allow it, else Python threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ort_rknn.engine.lanes import LaneOpener, Lanes, LanesFactory
from ort_rknn.engine.schedule import LaneSpec
from ort_rknn.engine.thread_lanes import ThreadLanes

__all__ = ["best_lanes"]


def best_lanes(
    program: LaneOpener,
    specs: Sequence[LaneSpec],
    *,
    share: bool,
    time_limit: float | None,
    phases: bool,
    clock: Callable[[], float],
) -> Lanes:
    """Make lanes, see :class:`ort_rknn.engine.lanes.LanesFactory`."""
    factory: LanesFactory = ThreadLanes
    if getattr(getattr(program, "device", None), "native_lanes", False):
        from ort_rknn.engine.native import NativeLanes

        factory = NativeLanes
    return factory(program, specs, share=share, time_limit=time_limit, phases=phases, clock=clock)
