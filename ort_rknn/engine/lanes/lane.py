"""Lanes of both kinds: contexts that may share weights, the account, and what a critical section defers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ort_rknn.devices.rknnrt.native_calls import SPENT, TABLE_HEAD
from ort_rknn.engine.lanes.base import LaneOpener, LaneState, LaneStats, Task
from ort_rknn.engine.lanes.wake_ups import Sleeper
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array
    from ort_rknn.devices.program import LaneContexts
    from ort_rknn.devices.rknnrt.native_calls import NativeLibrary, NativeOutcome
    from ort_rknn.engine.lanes.schedule import LaneSpec
    from ort_rknn.engine.sharing.arbiter import Gate

__all__ = [
    "Deferred",
    "InFlight",
    "Lane",
    "LaneRecord",
    "NativeContext",
    "NativeIo",
    "NativeLane",
    "SharedContexts",
    "TaskOutcome",
    "native_contexts",
    "shielded",
]


class SharedContexts:
    """Contexts that are closed only after all contexts that share their weights.

    The vendor does not say whether ``rknn_destroy`` may precede that of a duplicate, so it never does.

    Args:
        contexts: Just opened.
        source: Whose weights they share; it must be held (:meth:`hold`), this object lets go of it when closed.
    """

    def __init__(self, contexts: LaneContexts, source: SharedContexts | None) -> None:
        self.contexts = contexts
        self._source = source
        self._lock = threading.RLock()
        self._holders = 0
        self._unwanted = False
        self._closed = False

    @property
    def shares(self) -> bool:
        """Whether the weights are another lane's."""
        return self._source is not None

    @classmethod
    def open(cls, program: LaneOpener, mask: int, source: SharedContexts | None) -> SharedContexts:
        """Open a lane's contexts; ``source``, whose weights they share, is held already and let go of on failure."""
        try:
            contexts = program.open_lane(mask, source.contexts if source else None)
        except BaseException:
            if source is not None:
                source.release()
            raise
        return cls(contexts, source)

    @staticmethod
    def hold_first(opened: Iterable[SharedContexts | None]) -> SharedContexts | None:
        """Hold the first of these that is not given up."""
        return next((contexts for contexts in opened if contexts is not None and contexts.hold()), None)

    def hold(self) -> bool:
        """Keep them open until :meth:`release`; ``False`` when they are given up already."""
        with self._lock:
            if self._unwanted:
                return False
            self._holders += 1
            return True

    def release(self) -> None:
        """Undo one :meth:`hold`."""
        with self._lock:
            self._holders -= 1
        self._close_if_free()

    def close(self) -> None:
        """Close them now, or as soon as nobody shares them any more."""
        self._unwanted = True
        self._close_if_free()

    def _close_if_free(self) -> None:
        with self._lock:
            if self._closed or not self._unwanted or self._holders:
                return
            self._closed = True
        self.contexts.close()
        if self._source is not None:
            self._source.release()


class LaneRecord:
    """State and account of one lane of either kind. The lanes' lock guards it."""

    def __init__(self, spec: LaneSpec) -> None:
        self.spec = spec
        self.state = LaneState.COLD
        self.contexts: SharedContexts | None = None
        self.leaving = False  # its core is out of service, or will be once the lane is not busy
        self.abandoned = False  # it hangs, and another lane has taken its place
        self.tasks = 0
        self.failures = 0
        self.busy_s = 0.0

    @property
    def in_service(self) -> bool:
        """Whether it will take tasks again."""
        return self.state is not LaneState.GONE and not self.leaving

    def continue_account(self, lane: LaneRecord) -> None:
        """Goes on with the account of a lane that hangs, in whose place this one is."""
        self.leaving = lane.leaving
        self.tasks, self.failures, self.busy_s = lane.tasks, lane.failures, lane.busy_s

    def stats(self, busy: bool = False, lent: tuple[int, float] = (0, 0.0)) -> LaneStats:
        """Work of the lane so far.

        Args:
            busy: It is known to be at work, whatever its state says.
            lent: Tasks, and their seconds, that are not in its account.
        """
        spec, state = self.spec, LaneState.BUSY if busy else self.state
        return LaneStats(
            spec.index,
            spec.shown_core,
            spec.mask,
            state.value,
            self.tasks + lent[0],
            self.failures,
            round(self.busy_s + lent[1], 6),
        )


class Lane(LaneRecord):
    """A lane of a Python thread; ``since`` and ``contexts`` are changed by its user, without the lock."""

    def __init__(self, spec: LaneSpec) -> None:
        super().__init__(spec)
        self.thread: threading.Thread | None = None
        self.sleeper = Sleeper()
        self.inbox: Task | None = None
        self.task: Task | None = None
        self.since: float | None = None  # when the device began with the task
        self.gate: Gate | None = None

    @property
    def core(self) -> int:
        """Number of the core."""
        return self.spec.core

    @property
    def free(self) -> bool:
        """Whether it can take a task now."""
        return self.state is LaneState.IDLE or self.state is LaneState.COLD

    def successor(self) -> Lane:
        """A new lane in the place of this one, which hangs."""
        lane = Lane(self.spec)
        lane.continue_account(self)
        return lane


class TaskOutcome:
    """Result of a task on the device."""

    __slots__ = ("error", "outputs", "phases", "seconds", "unopened")

    def __init__(self) -> None:
        self.outputs: list[Array | None] = []
        self.error: BaseException | None = None
        self.unopened = False  # the lane's contexts could not be opened: the task never ran
        self.seconds = 0.0
        self.phases: tuple[float, float, float] | None = None


class Deferred:
    """Actions deferred until the lock is released.

    Attributes:
        crowded: Whether other sessions are to give contexts back.
        ended: Tasks whose end is to be told.
        spoilt: Contexts to be closed.
        roused: Threads' lanes to be woken.
        opening: Native lanes to be opened, each with its first task if it has one.
        dismissed: Native lanes to be closed once they are not busy.
    """

    __slots__ = ("crowded", "dismissed", "ended", "opening", "roused", "spoilt")

    def __init__(self) -> None:
        self.crowded = False
        self.ended: list[Task] = []
        self.spoilt: list[SharedContexts] = []
        self.roused: list[Lane] = []
        self.opening: list[tuple[NativeLane, InFlight | None]] = []
        self.dismissed: list[NativeLane] = []


class NativeIo(Protocol):
    """Plan of how arrays go in and come out (:class:`ort_rknn.devices.rknnrt.tensor_layout.IoPlan`)."""

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    def own(self, position: int, array: Array) -> Any:
        """A copy in the layout that is handed over, where that is another; else ``None``."""

    def shown(self, position: int, owned: Any) -> Array:
        """The array it is a copy of."""

    def turned(self, inputs: Sequence[Any]) -> int:
        """Bit i: input i is such a copy."""

    def prepare(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """The arrays to hand over."""

    def allocate_outputs(self, wanted: Sequence[bool] | None = None) -> list[Array | None]:
        """Arrays for the runtime to write."""

    def reserve_outputs(self, wanted: Sequence[bool] | None = None) -> tuple[list[Any], list[int]]:
        """Arrays to be completed by :meth:`take_over`; and the words that tell native code."""

    def take_over(self, outputs: list[Any], words: Sequence[int]) -> None:
        """Completes those that were reserved."""

    def finish(self, outputs: list[Array | None]) -> list[Array | None]:
        """The ONNX values of what the runtime wrote."""


class NativeContext(Protocol):
    """Part of a context that native lanes need beside :class:`ort_rknn.devices.base.Context`."""

    io: NativeIo
    segment: int
    native: NativeLibrary | None

    def run_table(self, table: Any, outcome: NativeOutcome) -> None:
        """Run what a table of native code says."""

    def failed(self, outcome: NativeOutcome) -> BaseException:
        """The error a run ended with."""


class InFlight:
    """A task that native code has: the arrays, and the table that names them, live as long as this does."""

    __slots__ = ("inputs", "outputs", "table", "task")

    def __init__(self, task: Task, inputs: Sequence[Any], outputs: list[Any], table: Any) -> None:
        self.task = task
        self.inputs = inputs
        self.outputs = outputs
        self.table = table

    def land(self, io: NativeIo, outcome: NativeOutcome) -> None:
        """Native code has ended it: take over the memory it took, and let go of what it gave back."""
        spent = self.table[SPENT] or 0
        if spent and outcome.set:
            for i, given in enumerate(self.inputs):
                if spent >> i & 1:
                    given.spent = True
        io.take_over(self.outputs, self.table[TABLE_HEAD + len(self.inputs) :])


class NativeLane(LaneRecord):
    """A native lane. ``state`` is IDLE from when its thread has its contexts, whether that works or not."""

    def __init__(self, spec: LaneSpec) -> None:
        super().__init__(spec)
        self.number = -1  # of its native thread
        self.shedding = False  # its contexts are given back when it is through
        self.opened: LaneContexts | None = None  # last; closed or not, they know the words for a failure

    @property
    def has_contexts(self) -> bool:
        """Whether it has contexts and keeps them, or is about to open some."""
        return self.state in (LaneState.IDLE, LaneState.BUSY) and not self.shedding

    def successor(self) -> NativeLane:
        """A new lane in the place of this one, which hangs."""
        lane = NativeLane(self.spec)
        lane.continue_account(self)
        if lane.leaving:
            lane.state = LaneState.GONE
        return lane


def native_contexts(contexts: LaneContexts) -> Sequence[NativeContext]:
    """The contexts of a lane, one for each NPU step, as native lanes see them."""
    return contexts.contexts  # type: ignore[return-value]


def shielded(function: Callable[..., object], *arguments: Any) -> None:
    """Calls a function, and logs what it raises: the ends of other tasks come after it."""
    try:
        function(*arguments)
    except BaseException:
        logger().exception("the lanes go on after an error")
