"""What native lanes are made of: a lane's contexts and account, a task on its way, the rest of a critical section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ort_rknn.devices.rknnrt.native_calls import NativeLibrary, NativeOutcome
from ort_rknn.engine.lanes.base import LaneState, LaneStats, Task
from ort_rknn.engine.lanes.lane import SharedContexts
from ort_rknn.engine.lanes.schedule import LaneSpec

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array

__all__ = ["Flight", "NativeContext", "NativeIo", "NativeLane", "Rest"]


class NativeIo(Protocol):
    """How arrays go in and come out, see :class:`ort_rknn.devices.rknnrt.tensor_layout.IoPlan`."""

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    def own(self, position: int, array: Array, native: NativeLibrary) -> Array | None:
        """A copy in the layout that is handed over, where that is another; else ``None``."""

    def turned(self, inputs: Sequence[Array]) -> int:
        """Bit i: input i is of that layout."""

    def prepare(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """The arrays to hand over."""

    def room(self, wanted: Sequence[bool] | None = None) -> list[Array | None]:
        """Fresh arrays for the runtime to write."""

    def finish(self, outputs: list[Array | None]) -> list[Array | None]:
        """The ONNX values of what the runtime wrote."""


class NativeContext(Protocol):
    """What native lanes need of a context beside :class:`ort_rknn.devices.base.Context`."""

    io: NativeIo
    segment: int
    native: NativeLibrary | None

    def run_raw(self, inputs: Sequence[Array], outputs: Sequence[Array | None], outcome: NativeOutcome) -> None:
        """Run on prepared inputs into raw outputs."""

    def failed(self, outcome: NativeOutcome) -> BaseException:
        """The error a run ended with."""


class Flight:
    """A task that native code has: the arrays live as long as this does."""

    __slots__ = ("inputs", "outputs", "table", "task", "turned")

    def __init__(
        self, task: Task, inputs: Sequence[Array], outputs: list[Array | None], table: Any, turned: int
    ) -> None:
        self.task = task
        self.inputs = inputs
        self.outputs = outputs
        self.table = table
        self.turned = turned


class NativeLane:
    """One lane. ``state`` is IDLE from when its native thread has its contexts, whether that works or not."""

    def __init__(self, spec: LaneSpec) -> None:
        self.spec = spec
        self.number = -1  # of its native thread
        self.state = LaneState.COLD
        self.contexts: SharedContexts | None = None
        self.leaving = False  # its core is out of service
        self.abandoned = False  # it hangs, and another lane has taken its place
        self.tasks = 0
        self.failures = 0
        self.busy_s = 0.0

    @property
    def in_service(self) -> bool:
        """Whether it will take tasks again."""
        return self.state is not LaneState.GONE and not self.leaving

    def successor(self) -> NativeLane:
        """A new lane in the place of this one, which hangs."""
        lane = NativeLane(self.spec)
        lane.tasks, lane.failures, lane.busy_s = self.tasks, self.failures, self.busy_s
        if self.leaving:
            lane.leaving = True
            lane.state = LaneState.GONE
        return lane

    def stats(self, works: bool) -> LaneStats:
        """What it did so far."""
        state = LaneState.BUSY if works else self.state
        spec = self.spec
        return LaneStats(
            spec.index, spec.core, spec.mask, state.value, self.tasks, self.failures, round(self.busy_s, 6)
        )


class Rest:
    """What a critical section leaves to be done once the lock is free."""

    __slots__ = ("dismissed", "ended", "opening", "spoilt")

    def __init__(self) -> None:
        self.ended: list[Task] = []
        self.opening: list[tuple[NativeLane, Flight | None]] = []
        self.spoilt: list[SharedContexts] = []
        self.dismissed: list[NativeLane] = []
