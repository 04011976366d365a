"""Keeps lanes from asking for NPU memory again and again where there is none for one more of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from ort_rknn.accounting.ledger import opening_for
from ort_rknn.engine.lanes.base import LaneState

if TYPE_CHECKING:
    from ort_rknn.engine.lanes.lane import LaneRecord

__all__ = ["MemoryDoor", "to_close"]

L = TypeVar("L", bound="LaneRecord")

HOLD_OFF_S = 1.0
"""How long a session that has a context does not try to open another after there was no memory for it. A guess."""


class MemoryDoor:
    """Admission of a session's lanes to NPU memory. Changed and read under the lanes' lock only.

    Args:
        owner: The lanes, whose own contexts are not closed for one more of theirs.
        clock: Seconds, monotonic.
    """

    def __init__(self, owner: Any, clock: Callable[[], float]) -> None:
        self._owner = owner
        self._clock = clock
        self._until = float("-inf")

    def shut(self) -> None:
        """There was no memory: lanes without contexts stay as they are for a while."""
        self._until = self._clock() + HOLD_OFF_S

    def keeps_out(self, lane: LaneRecord, lanes: Iterable[LaneRecord]) -> bool:
        """Whether a lane is not to be opened now: it has no contexts, and another lane can do its work."""
        if lane.contexts is not None or self._clock() >= self._until:
            return False
        return any(other.contexts is not None for other in lanes)

    def asleep(self, lanes: Iterable[LaneRecord]) -> bool:
        """Whether the lanes gave back all they had, and can open again."""
        lanes = list(lanes)
        return all(lane.contexts is None for lane in lanes) and any(
            lane.state is LaneState.COLD and lane.in_service for lane in lanes
        )

    def opening(self, lane: LaneRecord, lanes: Iterable[LaneRecord]) -> AbstractContextManager[None]:
        """A lane opens its contexts; a session's first waits for memory, further ones go without."""
        extra = any(other.contexts is not None for other in lanes if other is not lane)
        return opening_for(self._owner, extra=extra)


def to_close(lanes: Iterable[L], everything: bool) -> list[L]:
    """Lanes whose contexts may be closed, in order: those that share weights go before the one that lends them.

    Args:
        lanes: All lanes.
        everything: All of them; else, and while one is at work, one stays open: whose weights the others share.
    """
    lanes = list(lanes)
    opened = [lane for lane in lanes if lane.contexts is not None]
    order = sorted(opened, key=lambda lane: lane.contexts is None or not lane.contexts.shares)
    at_work = any(lane.state is LaneState.BUSY for lane in lanes)
    return order if everything and not at_work else order[:-1]
