"""The table of thread lanes: which there are, what each is at, and what waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ort_rknn.engine.lanes.base import LaneState, Task
from ort_rknn.engine.lanes.fault_policy import FaultPolicy
from ort_rknn.engine.lanes.lane import Deferred, Lane, TaskOutcome
from ort_rknn.engine.lanes.memory_door import to_close
from ort_rknn.errors import DeviceError

if TYPE_CHECKING:
    from ort_rknn.engine.lanes.memory_door import MemoryDoor
    from ort_rknn.engine.lanes.schedule import LaneSpec

__all__ = ["TaskQueues", "ThreadTable"]


class TaskQueues:
    """The queues of all lanes. The lanes' lock guards them.

    Args:
        cores: The cores there are.
    """

    def __init__(self, cores: Iterable[int]) -> None:
        self._shared: deque[Task] = deque()
        self._pinned: dict[int, deque[Task]] = {core: deque() for core in cores}
        self.waiting = 0

    def put(self, task: Task, core: int | None, front: bool) -> None:
        """Queue a task for a core, or for any."""
        queue = self._shared if core is None else self._pinned[core]
        (queue.appendleft if front else queue.append)(task)
        self.waiting += 1

    def take(self, core: int) -> Task | None:
        """The next task for a lane on this core."""
        queue = self._pinned[core] or self._shared
        if not queue:
            return None
        self.waiting -= 1
        return queue.popleft()

    def waiting_on(self, core: int) -> int:
        """Tasks that wait for this core alone."""
        return len(self._pinned.get(core, ()))

    def remove(self, task: Task) -> bool:
        """Take a task out; ``False`` when it is not here."""
        for queue in (self._shared, *self._pinned.values()):
            if task in queue:
                queue.remove(task)
                self.waiting -= 1
                return True
        return False

    def take_orphans(self, served: Callable[[int], bool]) -> list[Task]:
        """Take out all tasks that any lane may have, and those whose core is no longer served."""
        orphans = list(self._shared)
        self._shared.clear()
        for core, queue in self._pinned.items():
            if not served(core):
                orphans += queue
                queue.clear()
        self.waiting -= len(orphans)
        return orphans


class ThreadTable:
    """Changed and read under the lanes' lock only; what is to be done without it goes into an :class:`Deferred`.

    Args:
        specs: The lanes to be.
        clock: Seconds, monotonic.
        door: Admits lanes to NPU memory.

    Attributes:
        lanes: The lanes, at the places of their specs.
        queues: Tasks that no lane has taken yet.
        faults: Counts failures, and knows what was taken out of service.
    """

    def __init__(self, specs: Iterable[LaneSpec], clock: Callable[[], float], door: MemoryDoor) -> None:
        self._door = door
        self.lanes = [Lane(spec) for spec in specs]
        cores = [lane.core for lane in self.lanes]
        self.queues = TaskQueues(cores)
        self.faults = FaultPolicy(cores)
        self._clock = clock
        self._busy = dict.fromkeys(cores, 0)

    def choose(self, core: int | None) -> Lane | None:
        """The free lane for a task: on the core with the least work, the first of those."""
        core = self._effective(core)
        best: Lane | None = None
        for lane in self.lanes:
            if (
                lane.free
                and (core is None or lane.core == core)
                and (best is None or self._busy[lane.core] < self._busy[best.core])
                and not self._door.keeps_out(lane, self.lanes)
            ):
                best = lane
        return best

    def _effective(self, core: int | None) -> int | None:
        """The core a task is bound to: none when its own is out of service, or has no memory for a context."""
        if core is None or any(
            lane.core == core and lane.in_service and not self._door.keeps_out(lane, self.lanes) for lane in self.lanes
        ):
            return core
        return None

    def place(self, task: Task, front: bool, deferred: Deferred) -> None:
        """Give a task to a free lane, else queue it, else end it."""
        lane = self.choose(task.core)
        if lane is not None:
            self._give(lane, task, deferred)
        elif any(lane.in_service for lane in self.lanes):
            self.queues.put(task, self._effective(task.core), front)
        else:
            self.faults.end_without_core(task)
            deferred.ended.append(task)

    def take(self, lane: Lane, task: Task) -> None:
        """A free lane begins with a task."""
        lane.state = LaneState.BUSY
        lane.task = task
        self._busy[lane.core] += 1
        task.taken_at = self._clock()

    def _give(self, lane: Lane, task: Task, deferred: Deferred) -> None:
        self.take(lane, task)
        lane.inbox = task
        deferred.roused.append(lane)

    def next_of(self, lane: Lane) -> Task | None:
        """Take the lane's next task out of the queues."""
        if self._door.keeps_out(lane, self.lanes):
            return None
        task = self.queues.take(lane.core)
        if task is not None:
            self.take(lane, task)
        return task

    def dismiss(self, lane: Lane, deferred: Deferred) -> None:
        """End a lane that is not busy."""
        lane.state = LaneState.GONE
        if lane.contexts is not None:
            deferred.spoilt.append(lane.contexts)
            lane.contexts = None
        if lane.thread is not None:
            deferred.roused.append(lane)

    def retire(self, lanes: Iterable[Lane], why: str, deferred: Deferred) -> None:
        """Take lanes out of service; what waits for their core goes to the others."""
        for lane in lanes:
            lane.leaving = True
            if lane.free:
                self.dismiss(lane, deferred)
        self.faults.retired(why, self.lanes)
        for task in self.queues.take_orphans(lambda core: self._effective(core) is not None):
            self.place(task, False, deferred)

    def failed(self, lane: Lane, error: DeviceError, deferred: Deferred) -> None:
        """Count a failure of the lane's core."""
        if why := self.faults.failed(lane, error):
            lanes = [other for other in self.lanes if other.core == lane.core and other.in_service]
            self.retire(lanes, why, deferred)

    def record(self, lane: Lane, task: Task, outcome: TaskOutcome) -> None:
        """Write down what came of a task, in the task and in the lane's account."""
        task.outputs = outcome.outputs
        task.error = outcome.error
        task.seconds = outcome.seconds
        task.phases = outcome.phases
        task.ran_on = lane.spec.shown_core
        task.lane = lane.spec.index
        lane.busy_s += outcome.seconds
        if outcome.error is None:
            lane.tasks += 1
            self.faults.succeeded(lane.core)
        else:
            lane.failures += 1

    def vacate(self, lane: Lane) -> None:
        """A lane's task has left the device, or will never."""
        self._busy[lane.core] -= 1
        lane.task = None

    def replace(self, lane: Lane) -> Lane:
        """Put a new lane in the place of one that hangs."""
        successor = lane.successor()
        self.lanes[self.lanes.index(lane)] = successor
        return successor

    def without_memory(self, lane: Lane, task: Task, outcome: TaskOutcome, deferred: Deferred) -> bool:
        """There was no NPU memory for a lane; gives whether another lane can take its task, which has ended if not."""
        self._door.shut()
        if not self._door.keeps_out(lane, self.lanes):
            self.record(lane, task, outcome)
            return False
        for waiting in self.queues.take_orphans(lambda core: self._effective(core) is not None):
            self.place(waiting, False, deferred)
        return True

    def give_back(self, everything: bool, deferred: Deferred) -> int:
        """Lanes that are not at work lose their contexts: those that share weights, then the first's."""
        if self.queues.waiting:
            return 0
        gave = 0
        for lane in to_close(self.lanes, everything):
            if lane.state is LaneState.IDLE and lane.contexts is not None:
                deferred.spoilt.append(lane.contexts)
                lane.contexts = None
                lane.state = LaneState.COLD
                gave += 1
        return gave

    def retire_unopened(self, lane: Lane, error: BaseException | None, deferred: Deferred) -> None:
        """Take a lane out of service whose contexts cannot be opened."""
        self.retire([lane], self.faults.cannot_open(lane, error), deferred)
