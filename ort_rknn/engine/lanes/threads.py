"""Thread lanes: a Python thread per context, for every device. It starts when its lane first gets a pushed task."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ort_rknn.accounting.ledger import LEDGER, opening_for
from ort_rknn.engine.lanes.base import LaneOpener, LaneSetup, LaneState, LaneStats, Task
from ort_rknn.engine.lanes.fault_policy import time_limit_error
from ort_rknn.engine.lanes.input_copies import copy_of
from ort_rknn.engine.lanes.lane import Deferred, Lane, SharedContexts, TaskOutcome
from ort_rknn.engine.lanes.memory_door import MemoryDoor
from ort_rknn.engine.lanes.thread_table import ThreadTable
from ort_rknn.engine.lanes.wake_ups import BriefLock, SpaceSignal
from ort_rknn.errors import DeviceError, InferenceTimeout, NpuMemoryFull

if TYPE_CHECKING:
    from ort_rknn.devices.program import LaneContexts
    from ort_rknn.engine.lanes.watchdog import Watchdog

__all__ = ["ThreadLanes"]


class ThreadLanes:
    """Lanes whose threads are Python's; see :class:`ort_rknn.engine.lanes.base.LaneSetup` for how they work."""

    kind = "thread"

    def __init__(self, program: LaneOpener, setup: LaneSetup) -> None:
        self._program = program
        self._share = setup.share
        self._phases = setup.phases
        self._clock = setup.clock
        self._time_limit = setup.time_limit
        self._watchdog: Watchdog | None = None
        if setup.time_limit:
            from ort_rknn.engine.lanes.watchdog import Watchdog

            self._watchdog = Watchdog(setup.time_limit, self._expire)
        self._sharer = setup.sharer
        self._lock = BriefLock()
        self._room = SpaceSignal()
        self.mark, self.touch, self.wait = self._room.mark, self._room.touch, self._room.wait
        self._door = MemoryDoor(self, setup.clock)
        self._table = ThreadTable(setup.specs, setup.clock, self._door)
        self.last_used = time.monotonic()
        self.given_back = 0
        self.changed: Callable[[], object] = int  # told of contexts that were opened or given back
        self._stopping = False
        first = self._table.lanes[0]
        with self._door.opening(first, ()):
            first.contexts = SharedContexts(program.open_lane(first.spec.mask), None)
        first.state = LaneState.IDLE
        if first.contexts.contexts.size:
            LEDGER.enter(self)

    @property
    def waiting(self) -> int:
        """Tasks that no lane has taken yet."""
        return self._table.queues.waiting

    def waiting_on(self, core: int) -> int:
        """Tasks that wait for this core alone."""
        return self._table.queues.waiting_on(core)

    def own(self, step: int, position: int, array: Any) -> Any:
        """A copy."""
        return copy_of(array)

    def shown(self, step: int, position: int, owned: Any) -> Any:
        """The copy."""
        return owned

    def push(self, task: Task, *, front: bool = False) -> None:
        """Accept a task: straight to a free lane, else into its queue."""
        self.last_used = time.monotonic()
        deferred = Deferred()
        with self._lock:
            self._table.place(task, front, deferred)
        self._finish(deferred)

    def withdraw(self, task: Task) -> bool:
        """Take a task out of its queue, if it is there."""
        with self._lock:
            if not self._table.queues.remove(task):
                return False
        self._room.touch()
        return True

    def run_here(self, task: Task) -> bool:
        """Execute a task in the calling thread if a lane is idle."""
        if self._time_limit:
            return False
        outcome = TaskOutcome()
        lane: Lane | None = None
        try:
            with self._lock:
                lane = self._table.choose(task.core)
                if lane is None:
                    return False
                self._table.take(lane, task)
            self._execute(lane, task, outcome)
        finally:  # an interrupt in the caller's thread must not take the lane with it
            if lane is not None and lane.task is task:
                following = self._settle(lane, task, outcome, here=True)
                if following is not None:
                    lane.inbox = following
                    self._rouse(lane)
        if LEDGER.hungry:
            LEDGER.offer(self)
        return not outcome.unopened

    def stop(self) -> None:
        """Close the contexts and end the threads."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            deferred = Deferred()
            for lane in self._table.lanes:
                if lane.free:
                    self._table.dismiss(lane, deferred)
        self._finish(deferred)
        if self._watchdog is not None:
            self._watchdog.stop()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the threads to end."""
        for lane in self._table.lanes:
            if lane.thread is not None and lane.thread is not threading.current_thread():
                lane.thread.join(timeout)
        if self._watchdog is not None:
            self._watchdog.join(timeout)

    def stats(self) -> tuple[LaneStats, ...]:
        """Work of each lane so far."""
        with self._lock:
            return tuple(lane.stats() for lane in self._table.lanes)

    def notes(self) -> tuple[str, ...]:
        """Sentences on cores that were taken out of service."""
        return tuple(self._table.faults.notes)

    def describe(self) -> tuple[Any, ...]:
        """Facts about the contexts of each lane."""
        opened = [lane.contexts for lane in self._table.lanes]
        return tuple(shared.contexts.describe() if shared is not None else [] for shared in opened)

    def give_back(self, *, everything: bool) -> int:
        """Close idle contexts, see :class:`ort_rknn.accounting.ledger.Holder`."""
        deferred = Deferred()
        with self._lock:
            gave = 0 if self._stopping else self._table.give_back(everything, deferred)
            self.given_back += gave
        self._finish(deferred)
        return gave

    @property
    def asleep(self) -> bool:
        """Whether they gave all they had back, and open again at their next task."""
        return not self._stopping and self._door.asleep(self._table.lanes)

    def open_briefly(self) -> LaneContexts:
        """Contexts beside those of the lanes, which the caller closes."""
        with opening_for(self, extra=False):
            return self._program.open_lane(self._table.lanes[0].spec.mask)

    def memory(self) -> tuple[int, int]:
        """Bytes of NPU memory of the contexts that are open, and how many lanes have contexts."""
        opened = [shared for lane in self._table.lanes if (shared := lane.contexts) is not None]
        return sum(shared.contexts.size for shared in opened), len(opened)

    def _finish(self, deferred: Deferred) -> None:
        """Do what a critical section has left."""
        for lane in deferred.roused:
            self._rouse(lane)
        for contexts in deferred.spoilt:
            contexts.close()
        if deferred.spoilt:
            self.changed()
        for task in deferred.ended:
            task.done(task)

    def _rouse(self, lane: Lane) -> None:
        """Wake the lane's thread, or start it."""
        if lane.thread is not None:
            lane.sleeper.poke()
            return
        name = f"ort_rknn lane {lane.spec.index} core {lane.core}"
        thread = threading.Thread(target=self._work, args=(lane,), name=name, daemon=True)
        lane.thread = thread  # before it starts: once it has, the lane may be free, and someone else look here
        try:
            if self._watchdog is not None:
                self._watchdog.start()
            thread.start()
        except RuntimeError as error:  # the interpreter is ending, or the system has no thread left
            lane.thread = None
            task, lane.inbox = lane.inbox, None
            if task is not None:
                outcome = TaskOutcome()
                outcome.error, outcome.unopened = error, True
                self._settle(lane, task, outcome)

    def _work(self, lane: Lane) -> None:
        """The lane's thread."""
        outcome: TaskOutcome | None = None
        while True:
            task, lane.inbox = lane.inbox, None
            while task is not None:
                outcome = TaskOutcome()
                try:
                    self._execute(lane, task, outcome)
                except BaseException as error:  # whatever a device raises ends the task, not the lane
                    outcome.error = error
                task = self._settle(lane, task, outcome)
            outcome = None  # a lane that sleeps holds no arrays
            if lane.inbox is None:
                if lane.state is LaneState.GONE or lane.abandoned:
                    return
                if LEDGER.hungry:
                    LEDGER.offer(self)
                lane.sleeper.sleep()

    def _execute(self, lane: Lane, task: Task, outcome: TaskOutcome) -> None:
        """Open the contexts if need be, and run."""
        try:
            shared = lane.contexts or self._open(lane)
        except Exception as error:
            outcome.error, outcome.unopened = error, True
            return
        if self._sharer is not None and lane.gate is None:
            lane.gate = self._sharer.gate(lane.spec.weight)
        with lane.gate or nullcontext():
            begun = lane.since = self._clock()
            try:
                outcome.outputs = shared.contexts.run(task.step, task.inputs, task.wanted)
            except Exception as error:
                outcome.error = error
            finally:
                lane.since = None
                outcome.seconds = self._clock() - begun
        if self._phases and outcome.error is None:
            outcome.phases = shared.contexts.phases(task.step)

    def _open(self, lane: Lane) -> SharedContexts:
        source = None
        if self._share:
            with self._lock:
                source = SharedContexts.hold_first([other.contexts for other in self._table.lanes])
        with self._door.opening(lane, self._table.lanes):
            lane.contexts = shared = SharedContexts.open(self._program, lane.spec.mask, source)
        self.changed()
        return shared

    def _settle(self, lane: Lane, task: Task, outcome: TaskOutcome, *, here: bool = False) -> Task | None:
        """Account for a task that has left the device, and take the lane's next one."""
        self.last_used = time.monotonic()
        deferred = Deferred()
        following = None
        with self._lock:
            if lane.abandoned:  # the watchdog has ended the task
                self._table.dismiss(lane, deferred)
            else:
                self._table.vacate(lane)
                if isinstance(outcome.error, DeviceError) and lane.contexts is not None:
                    deferred.spoilt.append(lane.contexts)
                    lane.contexts = None
                    lane.spec = lane.spec.settled()
                lane.state = LaneState.COLD if lane.contexts is None else LaneState.IDLE
                full = outcome.unopened and isinstance(outcome.error, NpuMemoryFull)
                if full and not self._table.without_memory(lane, task, outcome, deferred):
                    outcome.unopened = False
                    if not here:
                        deferred.ended.append(task)
                elif not outcome.unopened:
                    self._table.record(lane, task, outcome)
                    if not here:
                        deferred.ended.append(task)
                    if isinstance(outcome.error, DeviceError):
                        self._table.failed(lane, outcome.error, deferred)
                if lane.free and (lane.leaving or self._stopping):
                    self._table.dismiss(lane, deferred)
                elif outcome.unopened and not full:
                    self._table.retire_unopened(lane, outcome.error, deferred)
                if outcome.unopened and not here:
                    task.taken_at = 0.0
                    self._table.place(task, True, deferred)
                if lane.free:
                    following = self._table.next_of(lane)
        if following is not None:
            self._room.touch()
        self._finish(deferred)
        return following

    def _expire(self) -> float | None:
        """End the tasks that take too long; gives the seconds until the next one may."""
        deferred = Deferred()
        wait: float | None = None
        late: list[tuple[Lane, InferenceTimeout]] = []
        with self._lock:
            now = self._clock()
            for lane in list(self._table.lanes):
                since, task = lane.since, lane.task
                if since is None or task is None:
                    continue
                left = since + (self._time_limit or 0) - now
                if left > 0:
                    wait = left if wait is None else min(wait, left)
                    continue
                error = self._abandon(lane, task, now - since)
                deferred.ended.append(task)
                late.append((self._table.replace(lane), error))
            for lane, error in late:
                self._table.failed(lane, error, deferred)
                following = None
                if lane.free and lane.leaving:
                    self._table.dismiss(lane, deferred)
                elif lane.free:
                    following = self._table.next_of(lane)
                if following is not None:
                    lane.inbox = following
                    deferred.roused.append(lane)
        for _ in late:
            self._room.touch()
        self._finish(deferred)
        return wait

    def _abandon(self, lane: Lane, task: Task, seconds: float) -> InferenceTimeout:
        """End a task whose thread hangs in the device, and leave the lane to that thread."""
        lane.abandoned = True
        if lane.gate is not None:
            lane.gate.forfeit()
        self._table.vacate(lane)
        outcome = TaskOutcome()
        outcome.seconds = seconds
        outcome.error = error = time_limit_error(lane, self._time_limit)
        self._table.record(lane, task, outcome)
        return error
