"""Thread lanes: a Python thread per context, for every device. It starts when its lane first gets a pushed task."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ort_rknn.engine.copying import copy_of
from ort_rknn.engine.lane import After, Lane, Outcome, SharedContexts
from ort_rknn.engine.lanes import (
    FAILURES_IN_A_ROW,
    LaneOpener,
    LaneSetup,
    LaneState,
    LaneStats,
    NoCoreLeft,
    Task,
    unraised,
)
from ort_rknn.engine.queues import Queues
from ort_rknn.engine.signals import Room
from ort_rknn.errors import DeviceError, InferenceTimeout
from ort_rknn_converters.log import logger

if TYPE_CHECKING:
    from ort_rknn.engine.watchdog import Watchdog

__all__ = ["ThreadLanes"]


class ThreadLanes:
    """Lanes whose threads are Python's; see :class:`ort_rknn.engine.lanes.LaneSetup` for how they work."""

    kind = "thread"

    def __init__(self, program: LaneOpener, setup: LaneSetup) -> None:
        self._program = program
        self._share = setup.share
        self._phases = setup.phases
        self._clock = setup.clock
        self._time_limit = setup.time_limit
        self._watchdog: Watchdog | None = None
        if setup.time_limit:
            from ort_rknn.engine.watchdog import Watchdog

            self._watchdog = Watchdog(setup.time_limit, self._expire)
        self._lock = threading.RLock()
        self._room = Room()
        self.mark, self.touch, self.wait = self._room.mark, self._room.touch, self._room.wait
        self._lanes = [Lane(spec) for spec in setup.specs]
        cores = [spec.core for spec in setup.specs]
        self._queues = Queues(cores)
        self._busy = dict.fromkeys(cores, 0)
        self._failures = dict.fromkeys(cores, 0)
        self._stopping = False
        self._notes: list[str] = []
        self._last_failure: BaseException | None = None
        first = self._lanes[0]
        first.contexts = SharedContexts(program.open_lane(first.spec.mask), None)
        first.state = LaneState.IDLE

    @property
    def waiting(self) -> int:
        """Tasks that no lane has taken yet."""
        return self._queues.waiting

    def own(self, step: int, position: int, array: Any) -> Any:
        """A copy."""
        return copy_of(array)

    def push(self, task: Task, *, front: bool = False) -> None:
        """Accept a task: straight to a free lane, else into its queue."""
        after = After()
        with self._lock:
            self._place(task, front, after)
        self._finish(after)

    def withdraw(self, task: Task) -> bool:
        """Take a task out of its queue, if it is there."""
        with self._lock:
            if not self._queues.remove(task):
                return False
        self._room.touch()
        return True

    def run_here(self, task: Task) -> bool:
        """Execute a task in the calling thread if a lane is idle."""
        if self._time_limit:
            return False
        outcome = Outcome()
        lane: Lane | None = None
        try:
            with self._lock:
                lane = self._choose(task.core)
                if lane is None:
                    return False
                self._take(lane, task)
            self._execute(lane, task, outcome)
        finally:  # an interrupt in the caller's thread must not take the lane with it
            if lane is not None and lane.task is task:
                following = self._settle(lane, task, outcome, here=True)
                if following is not None:
                    lane.inbox = following
                    self._rouse(lane)
        return not outcome.unopened

    def stop(self) -> None:
        """Close the contexts and end the threads."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            after = After()
            for lane in self._lanes:
                if lane.free:
                    self._dismiss(lane, after)
        self._finish(after)
        if self._watchdog is not None:
            self._watchdog.stop()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the threads to end."""
        for lane in self._lanes:
            if lane.thread is not None and lane.thread is not threading.current_thread():
                lane.thread.join(timeout)
        if self._watchdog is not None:
            self._watchdog.join(timeout)

    def stats(self) -> tuple[LaneStats, ...]:
        """What each lane did so far."""
        with self._lock:
            return tuple(lane.stats() for lane in self._lanes)

    def notes(self) -> tuple[str, ...]:
        """Sentences on cores that were taken out of service."""
        return tuple(self._notes)

    def describe(self) -> tuple[Any, ...]:
        """Facts about the contexts of each lane."""
        opened = [lane.contexts for lane in self._lanes]
        return tuple(shared.contexts.describe() if shared is not None else [] for shared in opened)

    # -- under the lock

    def _choose(self, core: int | None) -> Lane | None:
        """The free lane for a task: on the core with the least work, the first of those."""
        core = self._effective(core)
        best: Lane | None = None
        for lane in self._lanes:
            if (
                lane.free
                and (core is None or lane.core == core)
                and (best is None or self._busy[lane.core] < self._busy[best.core])
            ):
                best = lane
        return best

    def _effective(self, core: int | None) -> int | None:
        """The core a task is bound to: none when its own is out of service."""
        if core is None or any(lane.core == core and lane.in_service for lane in self._lanes):
            return core
        return None

    def _place(self, task: Task, front: bool, after: After) -> None:
        """Give a task to a free lane, else queue it, else end it."""
        lane = self._choose(task.core)
        if lane is not None:
            self._give(lane, task, after)
        elif any(lane.in_service for lane in self._lanes):
            self._queues.put(task, self._effective(task.core), front)
        else:
            task.error = NoCoreLeft(f"every NPU core is out of service; the last failure was: {self._last_failure}")
            task.error.__cause__ = self._last_failure
            after.ended.append(task)

    def _take(self, lane: Lane, task: Task) -> None:
        lane.state = LaneState.BUSY
        lane.task = task
        self._busy[lane.core] += 1
        task.taken_at = self._clock()

    def _give(self, lane: Lane, task: Task, after: After) -> None:
        self._take(lane, task)
        lane.inbox = task
        after.roused.append(lane)

    def _next(self, lane: Lane) -> Task | None:
        """Take the lane's next task out of the queues."""
        task = self._queues.take(lane.core)
        if task is not None:
            self._take(lane, task)
        return task

    def _dismiss(self, lane: Lane, after: After) -> None:
        """End a lane that is not busy."""
        lane.state = LaneState.GONE
        if lane.contexts is not None:
            after.spoilt.append(lane.contexts)
            lane.contexts = None
        if lane.thread is not None:
            after.roused.append(lane)

    def _retire(self, lanes: Iterable[Lane], why: str, after: After) -> None:
        """Take lanes out of service; what waits for their core goes to the others."""
        for lane in lanes:
            lane.leaving = True
            if lane.free:
                self._dismiss(lane, after)
        left = len({lane.core for lane in self._lanes if lane.in_service})
        note = f"{why}; {left} core(s) left" if left else f"{why}; no core is left"
        self._notes.append(note)
        logger().warning(note)
        for task in self._queues.take_orphans(lambda core: self._effective(core) is not None):
            self._place(task, False, after)

    def _failed(self, lane: Lane, error: DeviceError, after: After) -> None:
        """Count a failure of the lane's core."""
        self._last_failure = unraised(error)
        self._failures[lane.core] += 1
        if self._failures[lane.core] >= FAILURES_IN_A_ROW and lane.in_service:
            lanes = [other for other in self._lanes if other.core == lane.core and other.in_service]
            why = f"core {lane.core} is out of service after {FAILURES_IN_A_ROW} failures in a row, the last: {error}"
            self._retire(lanes, why, after)

    def _record(self, lane: Lane, task: Task, outcome: Outcome) -> None:
        task.outputs = outcome.outputs
        task.error = outcome.error
        task.seconds = outcome.seconds
        task.phases = outcome.phases
        task.ran_on = lane.core
        task.lane = lane.spec.index
        lane.busy_s += outcome.seconds
        if outcome.error is None:
            lane.tasks += 1
            self._failures[lane.core] = 0
        else:
            lane.failures += 1

    # -- without the lock

    def _finish(self, after: After) -> None:
        """Do what a critical section has left."""
        for lane in after.roused:
            self._rouse(lane)
        for contexts in after.spoilt:
            contexts.close()
        for task in after.ended:
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
                outcome = Outcome()
                outcome.error, outcome.unopened = error, True
                self._settle(lane, task, outcome)

    def _work(self, lane: Lane) -> None:
        """The lane's thread."""
        outcome: Outcome | None = None
        while True:
            task, lane.inbox = lane.inbox, None
            while task is not None:
                outcome = Outcome()
                try:
                    self._execute(lane, task, outcome)
                except BaseException as error:  # whatever a device raises ends the task, not the lane
                    outcome.error = error
                task = self._settle(lane, task, outcome)
            outcome = None  # a lane that sleeps holds no arrays
            if lane.inbox is None:
                if lane.state is LaneState.GONE or lane.abandoned:
                    return
                lane.sleeper.sleep()

    def _execute(self, lane: Lane, task: Task, outcome: Outcome) -> None:
        """Open the contexts if need be, and run."""
        try:
            shared = lane.contexts or self._open(lane)
        except Exception as error:
            outcome.error, outcome.unopened = error, True
            return
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
                source = SharedContexts.hold_first([other.contexts for other in self._lanes])
        lane.contexts = SharedContexts.open(self._program, lane.spec.mask, source)
        return lane.contexts

    def _settle(self, lane: Lane, task: Task, outcome: Outcome, *, here: bool = False) -> Task | None:
        """Account for a task that has left the device, and take the lane's next one."""
        after = After()
        following = None
        with self._lock:
            if lane.abandoned:  # the watchdog has ended the task
                self._dismiss(lane, after)
            else:
                lane.task = None
                self._busy[lane.core] -= 1
                if isinstance(outcome.error, DeviceError) and lane.contexts is not None:
                    after.spoilt.append(lane.contexts)
                    lane.contexts = None
                lane.state = LaneState.COLD if lane.contexts is None else LaneState.IDLE
                if not outcome.unopened:
                    self._record(lane, task, outcome)
                    if not here:
                        after.ended.append(task)
                    if isinstance(outcome.error, DeviceError):
                        self._failed(lane, outcome.error, after)
                if lane.free and (lane.leaving or self._stopping):
                    self._dismiss(lane, after)
                elif outcome.unopened:
                    self._last_failure = unraised(outcome.error or DeviceError("it is closed"))
                    why = f"lane {lane.spec.index} on core {lane.core} is out of service, it cannot be opened"
                    self._retire([lane], f"{why}: {outcome.error}", after)
                if outcome.unopened and not here:
                    task.taken_at = 0.0
                    self._place(task, True, after)
                if lane.free:
                    following = self._next(lane)
        if following is not None:
            self._room.touch()
        self._finish(after)
        return following

    def _expire(self) -> float | None:
        """End the tasks that take too long; gives the seconds until the next one may."""
        after = After()
        wait: float | None = None
        late: list[tuple[Lane, InferenceTimeout]] = []
        with self._lock:
            now = self._clock()
            for place, lane in enumerate(self._lanes):
                since, task = lane.since, lane.task
                if since is None or task is None:
                    continue
                left = since + (self._time_limit or 0) - now
                if left > 0:
                    wait = left if wait is None else min(wait, left)
                    continue
                error = self._abandon(lane, task, now - since)
                after.ended.append(task)
                self._lanes[place] = lane.successor()
                late.append((self._lanes[place], error))
            for lane, error in late:
                self._failed(lane, error, after)
                following = None
                if lane.free and lane.leaving:
                    self._dismiss(lane, after)
                elif lane.free:
                    following = self._next(lane)
                if following is not None:
                    lane.inbox = following
                    after.roused.append(lane)
        for _ in late:
            self._room.touch()
        self._finish(after)
        return wait

    def _abandon(self, lane: Lane, task: Task, seconds: float) -> InferenceTimeout:
        """End a task whose thread hangs in the device, and leave the lane to that thread."""
        lane.abandoned = True
        self._busy[lane.core] -= 1
        outcome = Outcome()
        outcome.seconds = seconds
        limit_ms = 1000 * (self._time_limit or 0)
        error = InferenceTimeout(f"the inference took longer than {limit_ms:g} ms (run_timeout_ms) on core {lane.core}")
        outcome.error = error
        self._record(lane, task, outcome)
        return error
