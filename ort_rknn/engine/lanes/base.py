"""Lanes: what executes NPU tasks, one task at a time on one core each. The interface, for threads and for native code.

What every implementation must do:

* A task is executed by exactly one lane and ends exactly once: ``task.done(task)`` is called after ``outputs`` or
  ``error`` was set, from a thread of the lanes and with no lock held; unless :meth:`Lanes.withdraw` gave it back
  before, or it was executed by :meth:`Lanes.run_here`, which calls nothing.
* Unpinned tasks wait in one queue that any free lane takes from, in order. Pinned tasks (``task.core``) wait in their
  core's own queue: a slow core never delays another. When a pinned task's core is out of service any lane may take it.
* A free lane gets a pushed task at once: ``waiting`` counts only tasks that found no free lane.
* ``taken_at`` is set when a lane takes a task; whatever is in a queue is not taken, and the queue's lock alone decides
  between a lane that takes and a caller that withdraws.
* Taking a task that waited makes space: the implementation touches its
  :class:`~ort_rknn.engine.lanes.wake_ups.SpaceSignal` (native lanes wake the waiter from C, so that no thread needs the
  interpreter's lock to make another one wait no longer).
* The first lane's contexts are open when the constructor returns (its errors are the constructor's); the others open
  when they get their first task, in the thread that executes it, sharing the weights of an open lane. The device must
  accept that this lane may be running meanwhile; contexts are closed after all that share their weights.
* A :class:`~ort_rknn.errors.DeviceError` ends the task; the context is closed and opened anew for the next task. After
  ``FAILURES_IN_A_ROW`` the core is out of service, with a warning; so is a lane whose contexts cannot be opened, and
  then the task goes to another lane. When no lane is left all tasks end as :class:`NoCoreLeft`.
* Where there is no NPU memory for a lane's contexts (:class:`~ort_rknn.errors.NpuMemoryFull`), the lane stays as it is:
  another lane of the session that has contexts takes the task; where there is none the task ends with that error.
* Contexts that are not at work are closed when asked (:meth:`Lanes.give_back`), and opened again like any other's.
* With a time limit, a task that takes longer ends as :class:`~ort_rknn.errors.InferenceTimeout`; its context is left to
  the thread that hangs in it, and the lane goes on with a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from ort_rknn.errors import DeviceError, DeviceUnavailable
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array
    from ort_rknn.devices.program import LaneContexts
    from ort_rknn.engine.lanes.schedule import LaneSpec
    from ort_rknn.engine.sharing.board import Sharer

__all__ = [
    "FAILURES_IN_A_ROW",
    "LaneOpener",
    "LaneSetup",
    "LaneState",
    "LaneStats",
    "Lanes",
    "LanesFactory",
    "NoCoreLeft",
    "Task",
    "unraised",
]

FAILURES_IN_A_ROW = 3
"""Failures of one core in a row after which it gets no more work. A guess."""


class NoCoreLeft(DeviceUnavailable):
    """Raised when every core was taken out of service."""


def unraised(error: BaseException) -> BaseException:
    """A copy of an error, to be remembered: the traceback of one that was raised keeps the program's frames alive.

    Those hold the session, so that one dropped without ``close()`` would never end.
    """
    try:
        return copy(error)
    except Exception:  # a device's own class, with a constructor of its own
        return DeviceError(str(error))


class LaneState(Enum):
    """State of a lane.

    ``COLD -> BUSY`` opens its contexts; ``IDLE <-> BUSY``; ``BUSY -> COLD`` after a failure that spoilt the context;
    any state ``-> GONE`` when the core is taken out of service or the lanes stop. No other moves exist.
    """

    COLD = "cold"
    IDLE = "idle"
    BUSY = "busy"
    GONE = "gone"


class Task:
    """One NPU step of one job.

    Attributes:
        step: Number of the step among the program's NPU steps.
        inputs: Arrays as :meth:`ort_rknn.devices.base.Context.run` takes them; not changed until the task has ended.
        wanted: Which outputs are needed; all when ``None``.
        core: Core it must run on; any when ``None``.
        done: Called with the task when it has ended.
        owner: Whose task it is; lanes do not look at it.
        spends: Whether nobody needs what :meth:`Lanes.own` made of its inputs once the device has the data.
        outputs: The results.
        error: What went wrong instead.
        ran_on: Core of the lane that executed it.
        lane: Number of that lane.
        taken_at: When a lane took it, on the engine's clock; 0 before.
        seconds: Time inside the device.
        phases: Seconds to set inputs, infer and fetch outputs, if the device says so and the lanes were asked for it.
        ticket: The lanes' own mark on it.
        probe: Tells whether a lane has taken it, where ``taken_at`` is only known at the end (native lanes).
    """

    __slots__ = (
        "core",
        "done",
        "error",
        "inputs",
        "lane",
        "outputs",
        "owner",
        "phases",
        "probe",
        "ran_on",
        "seconds",
        "spends",
        "step",
        "taken_at",
        "ticket",
        "wanted",
    )

    def __init__(
        self,
        step: int,
        inputs: list[Array],
        wanted: Sequence[bool] | None,
        done: Callable[[Task], object],
        owner: Any = None,
    ) -> None:
        self.step = step
        self.inputs = inputs
        self.wanted = wanted
        self.done = done
        self.owner = owner
        self.core: int | None = None
        self.outputs: list[Array | None] = []
        self.error: BaseException | None = None
        self.ran_on: int | None = None
        self.lane = -1
        self.taken_at = 0.0
        self.seconds = 0.0
        self.phases: tuple[float, float, float] | None = None
        self.ticket = 0
        self.spends = False
        self.probe: Callable[[Task], bool] | None = None

    @property
    def begun(self) -> bool:
        """Whether a lane has taken it."""
        return bool(self.taken_at) or (self.probe is not None and self.probe(self))


@frozen
class LaneStats:
    """Work of one lane so far.

    Attributes:
        index: Number of the lane.
        core: Its core; -1 where the driver chooses.
        mask: Its core mask.
        state: ``cold``, ``idle``, ``busy`` or ``gone``.
        tasks: Inferences that succeeded.
        failures: Inferences that failed, time-outs included.
        busy_s: Seconds inside the device.
    """

    index: int
    core: int
    mask: int
    state: str
    tasks: int
    failures: int
    busy_s: float


class LaneOpener(Protocol):
    """Program as lanes see it."""

    def open_lane(self, mask: int, share: LaneContexts | None = None) -> LaneContexts:
        """Opens a lane's contexts, as :meth:`ort_rknn.devices.program.Program.open_lane`."""


class Lanes(Protocol):
    """All lanes of an engine. Every method may be called from any thread.

    Attributes:
        changed: Called when contexts were opened or given back.
    """

    changed: Callable[[], object]

    @property
    def kind(self) -> str:
        """``thread`` or ``native``."""

    @property
    def waiting(self) -> int:
        """Tasks that no lane has taken yet. Cheap; may be lower a moment later, higher only by a push."""

    def waiting_on(self, core: int) -> int:
        """Tasks that wait for this core alone."""

    def own(self, step: int, position: int, array: Any) -> Any:
        """A copy of what only input ``position`` of NPU step ``step`` needs: the same to it, of whatever memory order.

        It may be float16 for float32, where the device would make that of it anyway, and it may be no array: see
        :meth:`shown`.
        """

    def shown(self, step: int, position: int, owned: Any) -> Any:
        """The array that :meth:`own` made a copy of; not once it was spent."""

    def push(self, task: Task, *, front: bool = False) -> None:
        """Accept a task, without waiting and without limit (the engine keeps the limits).

        Args:
            task: The task.
            front: Before all that wait: later steps of jobs that were begun.
        """

    def withdraw(self, task: Task) -> bool:
        """Take a task out of its queue; ``False`` when a lane has it (or it is not here)."""

    def run_here(self, task: Task) -> bool:
        """Execute a task in the calling thread if a lane is idle.

        Returns:
            ``False`` when none is, or there is a time limit: nothing happened, push it instead. ``True`` when
            the task has ended (``task.done`` is not called).
        """

    def mark(self) -> int:
        """Marks, as :meth:`ort_rknn.engine.lanes.wake_ups.SpaceSignal.mark`."""

    def touch(self, everyone: bool = False) -> None:
        """Touches, as :meth:`ort_rknn.engine.lanes.wake_ups.SpaceSignal.touch`."""

    def wait(self, mark: int, timeout: float | None = None, *, first: bool = False) -> None:
        """Waits, as :meth:`ort_rknn.engine.lanes.wake_ups.SpaceSignal.wait`."""

    def stop(self) -> None:
        """Close the contexts and end the threads, without waiting. Nothing waits or runs; may be called twice."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for the threads to end (but not for the calling one, nor for one that hangs in the device)."""

    def stats(self) -> tuple[LaneStats, ...]:
        """Work of each lane so far."""

    def notes(self) -> tuple[str, ...]:
        """Sentences on cores that were taken out of service."""

    def describe(self) -> tuple[Any, ...]:
        """Facts about the contexts of each lane; empty where none are open."""

    @property
    def last_used(self) -> float:
        """Time at which a task last came or ended, as ``time.monotonic`` has it."""

    @property
    def given_back(self) -> int:
        """Number of times a lane's contexts were closed to give memory back."""

    @property
    def asleep(self) -> bool:
        """Whether they gave all they had back, and open again at their next task."""

    def open_briefly(self) -> LaneContexts:
        """Contexts beside those of the lanes, which the caller closes."""

    def give_back(self, *, everything: bool) -> int:
        """Close idle contexts, see :class:`ort_rknn.accounting.ledger.Holder`."""

    def memory(self) -> tuple[int, int]:
        """Bytes of NPU memory of the contexts that are open, and how many lanes have contexts."""


@frozen
class LaneSetup:
    """Settings of an engine's lanes.

    Attributes:
        specs: The lanes, in order of preference.
        share: Whether they share the weights of the first.
        time_limit: Seconds one task may take; ``None`` is for ever.
        phases: Whether to fill in ``task.phases``.
        clock: Seconds, monotonic.
        sharer: The engine's place among those that use the NPU; ``None`` where it is no NPU.
        elastic: Whether there are fewer contexts while other sessions want the NPU.
    """

    specs: Sequence[LaneSpec]
    share: bool
    time_limit: float | None
    phases: bool
    clock: Callable[[], float]
    sharer: Sharer | None = None
    elastic: bool = False


LanesFactory = Callable[[LaneOpener, LaneSetup], Lanes]
"""Makes the lanes of an engine; the first argument opens their contexts."""
