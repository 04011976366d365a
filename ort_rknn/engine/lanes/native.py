"""Native lanes: POSIX threads that keep the NPU's cores busy whatever Python does meanwhile.

The C pool (``native/lanes.h``) queues and executes; this file opens contexts, turns what has ended into results, and
answers for failures. One Python thread, the collector, takes all that has ended at once. A lane that has no contexts
yet is opened by a short-lived thread, together with its first task.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from ort_rknn.accounting.ledger import LEDGER, opening_for
from ort_rknn.devices.rknnrt.native_calls import NativeOutcome, phases_of
from ort_rknn.devices.rknnrt.tensor_layout import addresses_of
from ort_rknn.engine.lanes.base import LaneOpener, LaneSetup, LaneState, LaneStats, Task, unraised
from ort_rknn.engine.lanes.fault_policy import time_limit_error
from ort_rknn.engine.lanes.input_copies import copy_of
from ort_rknn.engine.lanes.lane import Deferred, InFlight, NativeLane, native_contexts, shielded
from ort_rknn.engine.lanes.memory_door import to_close
from ort_rknn.engine.lanes.native_lifecycle import LaneKeeper
from ort_rknn.engine.lanes.native_pool import ANY, BUSY, LATE, TIMEOUT, NativePool
from ort_rknn.engine.lanes.switch_interval import FastSwitching
from ort_rknn.errors import DeviceError, NpuMemoryFull
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ort_rknn.devices.base import Array
    from ort_rknn.devices.program import LaneContexts

__all__ = ["NativeLanes"]

SWITCHING_S = 0.1
"""How long nothing must have been in flight before quick switches end: starved lanes are empty for moments. A guess."""

SLICE_S = 0.1
"""The main thread waits this long at a time, so that Ctrl-C is heeded; native waits do not know of signals."""


class NativeLanes(LaneKeeper):
    """Lanes whose threads are native; see :class:`ort_rknn.engine.lanes.base.LaneSetup` for how they work.

    The program's device must give contexts with a native segment:
    :class:`~ort_rknn.engine.lanes.lane.NativeContext`.
    """

    kind = "native"

    def __init__(self, program: LaneOpener, setup: LaneSetup) -> None:
        super().__init__(program, setup)
        if self.memory()[0]:
            LEDGER.enter(self)
        self._phases = setup.phases
        self._time_limit = setup.time_limit
        self._switching = FastSwitching()
        self._collector: threading.Thread | None = None
        self._finalizer = weakref.finalize(self, _free, self._pool, os.getpid())
        self._finalizer.atexit = False

    # -- the interface

    @property
    def waiting(self) -> int:
        """Tasks that no lane has taken yet."""
        return self._pool.waiting

    def mark(self) -> int:
        """The state of affairs, to be handed to :meth:`wait`."""
        return self._pool.mark

    def touch(self, everyone: bool = False) -> None:
        """Something changed: wake the first waiter, or every one."""
        self._pool.touch(everyone)

    def wait(self, mark: int, timeout: float | None = None, *, first: bool = False) -> None:
        """Sleep until something has changed since ``mark``."""
        if self._flights:
            self._switching.begin()
        if threading.current_thread() is not threading.main_thread():
            self._pool.wait(mark, timeout, first)
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._pool.mark == mark:
            left = SLICE_S if deadline is None else min(SLICE_S, deadline - time.monotonic())
            if left <= 0:
                return
            self._pool.wait(mark, left, first)

    def waiting_on(self, core: int) -> int:
        """Tasks that wait for this core alone."""
        group = self._groups.get(core)
        return 0 if group is None else self._pool.pinned(group)

    def own(self, step: int, position: int, array: Any) -> Any:
        """A copy of an input of step ``step``; a picture is turned on the way, so that its bytes are moved once."""
        fresh = self._ios[step].own(position, array)
        return copy_of(array) if fresh is None else fresh

    def shown(self, step: int, position: int, owned: Any) -> Any:
        """The array that :meth:`own` made a copy of."""
        return self._ios[step].shown(position, owned) if isinstance(owned, ctypes.Array) else owned

    def push(self, task: Task, *, front: bool = False) -> None:
        """Accept a task: straight to a free lane, else into its queue."""
        flight = self._flight(task)
        self.last_used = time.monotonic()
        deferred = Deferred()
        with self._lock:
            self._place(flight, front, deferred)
            if self._collector is None:
                self._collector = threading.Thread(target=self._collect, name="ort_rknn collector", daemon=True)
                self._collector.start()
        self._finish(deferred)

    def withdraw(self, task: Task) -> bool:
        """Take a task out of its queue, if it is there."""
        with self._lock:
            if not task.ticket or not self._pool.cancel(task.ticket):
                return False
            self._flights.pop(task.ticket, None)
            task.ticket = 0
            return True

    def run_here(self, task: Task) -> bool:
        """Execute a task in the calling thread if a lane is idle."""
        if self._time_limit:
            return False
        flight = self._flight(task)
        outcome = NativeOutcome()
        number = self._pool.run(self._group(task.core), task.step, flight.table, outcome)
        if number < 0:
            return number == BUSY and self._cold > 0 and self._open_here(task)
        lane = self._by_number[number]
        if not (outcome.code or lane.shedding or lane.leaving):  # leaves nothing to be done
            with self._lock:
                self._credit(lane, flight, outcome, lent=True)
            if LEDGER.hungry:
                LEDGER.offer(self)
            return True
        self._ended_here(lane, flight, outcome)
        return True

    def run_direct(
        self, step: int, inputs: Sequence[Array], wanted: Sequence[bool] | None
    ) -> list[Array | None] | None:
        """Execute an unpinned step in the calling thread, as :meth:`run_here` does, for callers that need no task.

        Not for lanes with a time limit: a caller could not be freed.

        Returns:
            The outputs; ``None`` where nothing was done: no lane is idle and open.

        Raises:
            DeviceError: The inference failed.
        """
        io = self._ios[step]
        given, outputs, outcome = io.prepare(inputs), io.allocate_outputs(wanted), NativeOutcome()
        number = self._pool.run(ANY, step, self._packed[step](0, 0, *addresses_of((*given, *outputs))), outcome)
        if number < 0:
            return None
        lane = self._by_number[number]
        if outcome.code or lane.shedding or lane.leaving:
            task = Task(step, list(inputs), wanted, print)
            self._ended_here(lane, InFlight(task, given, outputs, self._tables[step]()), outcome)
            if task.error is not None:
                raise task.error
            return task.outputs
        if self._faults.ailing:
            with self._lock:
                self._faults.succeeded(lane.spec.core)
        self.last_used = time.monotonic()
        if LEDGER.hungry:
            LEDGER.offer(self)
        return io.finish(outputs)

    def _ended_here(self, lane: NativeLane, flight: InFlight, outcome: NativeOutcome) -> None:
        """Account for what ran in its caller's thread, and leaves something to be done."""
        deferred = Deferred()
        with self._lock:
            self._account(lane, flight, outcome, deferred, lent=True)
        self._finish(deferred)
        if lane.leaving:
            self._dismiss(lane)

    def stop(self) -> None:
        """Close the contexts and end the threads."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        self._pool.stop()
        for lane in self._lanes:
            self._dismiss(lane)
        self._switching.end()
        self._pool.wake()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the threads to end, but for what hangs in the device."""
        current = threading.current_thread()
        hangs = any(lane.abandoned for lane in self._by_number.values() if lane.state is not LaneState.GONE)
        for thread in [*self._openers, self._collector]:
            if thread is not None and thread is not current and not hangs:
                thread.join(timeout)
        self._pool.join(0 if hangs else timeout)

    def stats(self) -> tuple[LaneStats, ...]:
        """Work of each lane so far."""
        with self._lock:
            pool = self._pool
            return tuple(lane.stats(pool.works(lane.number), pool.lent(lane.number)) for lane in self._lanes)

    # -- giving memory back

    def give_back(self, *, everything: bool) -> int:
        """Close idle contexts, see :class:`ort_rknn.accounting.ledger.Holder`."""
        deferred = Deferred()
        with self._lock:
            if self._stopping or self._flights:
                return 0
            for lane in to_close(self._lanes, everything and not self._pool.busy):
                if lane.state is LaneState.IDLE and lane.number >= 0 and not self._pool.works(lane.number):
                    lane.shedding = True
                    if self._pool.unequip(lane.number):
                        self._shed(lane, deferred)
            self.given_back += len(deferred.spoilt)
        self._finish(deferred)
        return len(deferred.spoilt)

    @property
    def asleep(self) -> bool:
        """Whether they gave all they had back, and open again at their next task."""
        return not self._stopping and self._door.asleep(self._lanes)

    def open_briefly(self) -> LaneContexts:
        """Contexts beside those of the lanes, which the caller closes."""
        with opening_for(self, extra=False):
            return self._program.open_lane(self._lanes[0].spec.mask)

    # -- inside

    def _open_here(self, task: Task) -> bool:
        """Open a cold lane in the calling thread, and run there."""
        with self._lock:
            lane = self._cold_lane(task.core)
            if lane is None:
                return False
            lane.state = LaneState.BUSY
            self._cold -= 1
        try:
            lane.contexts = self._open(lane)
        except NpuMemoryFull as error:
            deferred = Deferred()
            with self._lock:
                others = self._without_memory(lane, None, error, deferred)
            self._finish(deferred)
            task.error = None if others else error
            return not others
        except Exception as error:
            self._cannot_open(lane, None, error)
            return False
        flight = self._flight(task)
        self._tickets += 1
        outcome = NativeOutcome()
        context = native_contexts(lane.contexts.contexts)[task.step]
        task.taken_at = self._clock()
        context.run_table(flight.table, outcome)
        deferred = Deferred()
        with self._lock:
            self._account(lane, flight, outcome, deferred)
        if not outcome.code:
            self._start(lane, None)
        self._finish(deferred)
        if lane.leaving:
            self._dismiss(lane)
        return True

    def _flight(self, task: Task) -> InFlight:
        """All that native code needs of a task."""
        io = self._ios[task.step]
        inputs = io.prepare(task.inputs)
        outputs, words = io.reserve_outputs(task.wanted)
        turned = io.turned(inputs)
        table = self._tables[task.step](turned, turned if task.spends else 0, *addresses_of(inputs), *words)
        return InFlight(task, inputs, outputs, table)

    # -- tasks out

    def _collect(self) -> None:
        """The collector's thread."""
        while True:
            calm = bool(self._flights) or not self._switching.held
            events = self._pool.take(-1 if calm else SWITCHING_S)
            for token, kind, number, outcome in events:
                self._arrive(token, kind, self._by_number[number], outcome)
            if self._flights:
                continue
            if not events:
                self._switching.end()
            if LEDGER.hungry:
                LEDGER.offer(self)
            del events
            with self._lock:
                if self._stopping and not self._flights:
                    return

    def _arrive(self, token: int, kind: int, lane: NativeLane, outcome: NativeOutcome) -> None:
        deferred = Deferred()
        with self._lock:
            if kind == TIMEOUT:  # the runtime still has the arrays: the flight stays
                self._abandon(lane, self._flights[token], outcome, deferred)
            else:
                flight = self._flights.pop(token)
                if kind == LATE:
                    flight.land(self._ios[flight.task.step], outcome)
                else:
                    deferred.ended.append(flight.task)  # whatever goes wrong from here on, it ends
                    try:
                        self._account(lane, flight, outcome, deferred)
                    except BaseException as error:
                        logger().exception("an inference's completion failed")
                        flight.task.error = flight.task.error or unraised(error)
        if kind == LATE or lane.leaving or self._stopping:
            shielded(self._dismiss, lane)
        self._finish(deferred)

    def _abandon(self, lane: NativeLane, flight: InFlight, outcome: NativeOutcome, deferred: Deferred) -> None:
        """End a task whose thread hangs in the device, and leave the lane to that thread. Needs the lock."""
        task = flight.task
        task.error = error = time_limit_error(lane, self._time_limit)
        task.seconds = (outcome.done - outcome.begun) / 1e9
        task.taken_at = self._clock() - (time.monotonic_ns() - outcome.begun) / 1e9
        task.ran_on, task.lane = lane.spec.shown_core, lane.spec.index
        lane.failures += 1
        lane.abandoned = True
        successor = lane.successor()
        self._lanes[self._lanes.index(lane)] = successor
        self._cold += successor.in_service
        deferred.ended.append(task)
        self._failed(successor, error, deferred)
        self._serve_what_waits(successor, deferred)

    def _credit(self, lane: NativeLane, flight: InFlight, outcome: NativeOutcome, lent: bool = False) -> None:
        """Write a task's times and results into it and, unless the pool counted it, into the lane. Needs the lock."""
        task, spec = flight.task, lane.spec
        flight.land(self._ios[task.step], outcome)
        self.last_used = time.monotonic()
        task.seconds = (outcome.done - outcome.begun) / 1e9
        task.taken_at = self._clock() - (time.monotonic_ns() - outcome.begun) / 1e9
        task.ran_on = spec.shown_core
        task.lane = spec.index
        if outcome.code or not lent:
            lane.busy_s += task.seconds
        if not outcome.code:
            lane.tasks += not lent
            self._faults.succeeded(spec.core)
            if self._phases:
                task.phases = phases_of(outcome)
            task.outputs = self._ios[task.step].finish(flight.outputs)

    def _account(
        self, lane: NativeLane, flight: InFlight, outcome: NativeOutcome, deferred: Deferred, lent: bool = False
    ) -> None:
        """Write a task's end into it, and judge the lane by it. Needs the lock."""
        self._credit(lane, flight, outcome, lent)
        if not outcome.code:
            if lane.shedding and self._pool.shed(lane.number):
                self._shed(lane, deferred)
            return
        task = flight.task
        assert lane.opened is not None
        task.error = error = native_contexts(lane.opened)[task.step].failed(outcome)
        lane.failures += 1
        if lane.contexts is not None:  # the lane may have been dismissed before this was heard of
            deferred.spoilt.append(lane.contexts)
            lane.contexts = None
        lane.shedding = False
        lane.spec = lane.spec.settled()
        if lane.state not in (LaneState.GONE, LaneState.COLD):
            lane.state = LaneState.COLD
            self._cold += 1
        if isinstance(error, DeviceError):
            self._failed(lane, error, deferred)
        self._serve_what_waits(lane, deferred)


def _free(pool: NativePool, pid: int) -> None:
    """The last of a pool; one with a thread that hangs in the device is never freed."""
    if os.getpid() != pid:  # the threads, and whoever held a lock, stayed in the parent
        return
    pool.stop()
    if pool.join(0) == 0:
        pool.free()
