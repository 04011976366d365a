"""Decides when a core is out of service, and says so, for lanes of both kinds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ort_rknn.engine.lanes.base import FAILURES_IN_A_ROW, NoCoreLeft, Task, unraised
from ort_rknn.engine.lanes.schedule import what_is_left
from ort_rknn.errors import DeviceError, InferenceTimeout
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.engine.lanes.lane import LaneRecord

__all__ = ["FaultPolicy", "time_limit_error"]


class FaultPolicy:
    """Counts the failures of each core. Changed and read under the lanes' lock only.

    Args:
        cores: The cores there are.

    Attributes:
        notes: Sentences on cores that were taken out of service.
        ailing: Whether the last inference of any core failed; may be read without the lock.
    """

    def __init__(self, cores: Iterable[int]) -> None:
        self.notes: list[str] = []
        self.ailing = False
        self._in_a_row = dict.fromkeys(cores, 0)
        self._last: BaseException | None = None

    def succeeded(self, core: int) -> None:
        """Ends the row of failures of a core."""
        self._in_a_row[core] = 0
        self.ailing = self.ailing and any(self._in_a_row.values())

    def failed(self, lane: LaneRecord, error: DeviceError) -> str:
        """Counts a failure of the lane's core; returns why the core is to be retired, ``""`` while it is not."""
        core = lane.spec.core
        self._last = unraised(error)
        self._in_a_row[core] += 1
        self.ailing = True
        if self._in_a_row[core] < FAILURES_IN_A_ROW or not lane.in_service:
            return ""
        return f"{lane.spec.place} is out of service after {FAILURES_IN_A_ROW} failures in a row, the last: {error}"

    def cannot_open(self, lane: LaneRecord, error: BaseException | None) -> str:
        """Returns why a lane is to be retired whose contexts cannot be opened."""
        error = error or DeviceError("it is closed")
        self._last = unraised(error)
        return f"lane {lane.spec.index} on {lane.spec.place} is out of service, it cannot be opened: {error}"

    def retired(self, why: str, lanes: Iterable[LaneRecord]) -> None:
        """Notes and logs that lanes have been retired; ``lanes`` are all lanes there are."""
        note = f"{why}; {what_is_left(lane.spec for lane in lanes if lane.in_service)}"
        self.notes.append(note)
        logger().warning(note)

    def end_without_core(self, task: Task) -> None:
        """Writes into a task that no core is left for it."""
        task.error = NoCoreLeft(f"every NPU core is out of service; the last failure was: {self._last}")
        task.error.__cause__ = self._last


def time_limit_error(lane: LaneRecord, time_limit: float | None) -> InferenceTimeout:
    """Returns the error of a task that hangs in the device for longer than ``time_limit`` seconds."""
    limit_ms = 1000 * (time_limit or 0)
    return InferenceTimeout(f"the inference took longer than {limit_ms:g} ms (run_timeout_ms) on {lane.spec.place}")
