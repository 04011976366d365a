"""The lanes of a native pool: opened when there is work for them, taken out of service when they fail, closed once."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from ort_rknn.devices.rknnrt.native_calls import TABLE_HEAD
from ort_rknn.engine.lanes.base import LaneOpener, LaneSetup, LaneState, Task
from ort_rknn.engine.lanes.fault_policy import FaultPolicy
from ort_rknn.engine.lanes.lane import Deferred, InFlight, NativeLane, SharedContexts, native_contexts, shielded
from ort_rknn.engine.lanes.memory_door import MemoryDoor
from ort_rknn.engine.lanes.native_pool import ANY, BUSY, CLOSED, FRONT, IF_IDLE, NativePool, table_of
from ort_rknn.engine.lanes.switch_interval import URGENT_S, FastSwitching
from ort_rknn.engine.lanes.wake_ups import BriefLock
from ort_rknn.errors import DeviceError, NpuMemoryFull

__all__ = ["LaneKeeper"]

PATIENCE_S = 1.0
"""How long an idle lane's thread may take to end: it only has to wake up. A guess."""


class LaneKeeper:
    """Books of :class:`ort_rknn.engine.lanes.native.NativeLanes` about its lanes. ``_lock`` guards everything here."""

    def __init__(self, program: LaneOpener, setup: LaneSetup) -> None:
        self._program = program
        self._share = setup.share
        self._clock = setup.clock
        self._sharer = setup.sharer
        self._elastic = setup.elastic and setup.sharer is not None
        self._lock = BriefLock()
        self._lanes = [NativeLane(spec) for spec in setup.specs]
        cores = list(dict.fromkeys(spec.core for spec in setup.specs))
        self._pinned = not any(spec.floats for spec in setup.specs)
        self._groups = {core: number for number, core in enumerate(cores)}
        self._faults = FaultPolicy(cores)
        self._cold = len(setup.specs) - 1  # the first is opened here
        self._flights: dict[int, InFlight] = {}
        self._tickets = 0
        self._by_number: dict[int, NativeLane] = {}
        self._stopping = False
        self._openers: set[threading.Thread] = set()

        self._door = MemoryDoor(self, setup.clock)
        self.last_used = time.monotonic()
        self.given_back = 0
        self.changed: Callable[[], object] = int  # told of contexts that were opened or given back
        first = self._lanes[0]
        with self._door.opening(first, ()):
            contexts = program.open_lane(first.spec.mask)
        opened = native_contexts(contexts)
        library = opened[0].native
        if library is None or not all(getattr(context, "segment", 0) for context in opened):
            contexts.close()
            raise TypeError("native lanes need contexts of the npu device with the native library")
        self._ios = [context.io for context in opened]
        sizes = [TABLE_HEAD + len(io.inputs) + len(io.outputs) for io in self._ios]
        self._tables = [table_of(size) for size in sizes]
        self._packed = [struct.Struct(f"{size}P").pack for size in sizes]
        self._library = library
        self._pool = NativePool(library, len(cores), setup.time_limit)
        first.contexts = SharedContexts(contexts, None)
        first.opened = contexts
        self._guard(first)
        self._start(first, None)
        if setup.sharer is not None and self._elastic:
            setup.sharer.own(self)

    # -- tasks in

    def _group(self, core: int | None) -> int:
        if core is None or (self._cold and self._kept_out(core)):
            return ANY
        return self._groups.get(core, ANY)

    def _kept_out(self, core: int) -> bool:
        """Whether there is no memory for a context on a core, and another core has one."""
        lanes = [lane for lane in self._lanes if lane.spec.core == core and lane.in_service]
        return bool(lanes) and all(self._door.keeps_out(lane, self._lanes) for lane in lanes)

    def _place(self, flight: InFlight, front: bool, deferred: Deferred) -> None:
        """Give a task to a free lane, else queue it, else end it. Needs the lock."""
        task = flight.task
        if not any(lane.in_service for lane in self._lanes):
            self._flights.pop(task.ticket, None)  # of a lane that could not be opened for it
            self._end_without_core(task, deferred)
            return
        if not task.ticket:
            self._tickets += 1
            task.ticket = self._tickets
        self._flights[task.ticket] = flight
        group = self._group(task.core)
        code = BUSY
        if self._cold:
            code = self._pool.submit(group, task.step, flight.table, task.ticket, IF_IDLE)
            lane = self._cold_lane(task.core) if code == BUSY else None
            if code == BUSY and self._elastic and self._sharer is not None and self._sharer.crowded():
                deferred.crowded = True
            if lane is not None:
                self._begin_opening(lane, flight, deferred)
                return
        if code == BUSY:
            code = self._pool.submit(group, task.step, flight.table, task.ticket, FRONT if front else 0)
        if code >= 0:
            task.taken_at = self._clock()
        elif code <= BUSY:
            del self._flights[task.ticket]
            task.error = DeviceError("the native lanes are closed" if code == CLOSED else "no memory for a request")
            deferred.ended.append(task)
        else:
            task.probe = self._has_taken

    def _has_taken(self, task: Task) -> bool:
        return task.ticket in self._flights and not self._pool.waits(task.ticket)

    def _end_without_core(self, task: Task, deferred: Deferred) -> None:
        self._faults.end_without_core(task)
        deferred.ended.append(task)

    # -- opening lanes

    def _cold_lane(self, core: int | None) -> NativeLane | None:
        """A lane without contexts that may get some for a task for this core. Needs the lock."""
        if core is not None and not any(lane.spec.core == core and lane.in_service for lane in self._lanes):
            core = None
        cold = (
            lane
            for lane in self._lanes
            if lane.state is LaneState.COLD and lane.in_service and not self._door.keeps_out(lane, self._lanes)
        )
        lane = next((lane for lane in cold if core is None or lane.spec.core == core), None)
        return lane if lane is not None and self._may_open(core) else None

    def _begin_opening(self, lane: NativeLane, flight: InFlight | None, deferred: Deferred) -> None:
        """A cold lane gets contexts, and a first task or what waits. Needs the lock."""
        lane.state = LaneState.BUSY
        self._cold -= 1
        if flight is not None:
            flight.task.taken_at = self._clock()
        deferred.opening.append((lane, flight))

    def _open_there(self, lane: NativeLane, flight: InFlight | None) -> None:
        """On a thread of its own: open the contexts, then leave the lane to its native thread."""
        # Each of the vendor's calls gives the interpreter away: beside a busy thread an opening is 20 switch intervals.
        switching = FastSwitching(URGENT_S)
        switching.begin()
        try:
            lane.contexts = self._open(lane)
        except NpuMemoryFull as error:
            deferred = Deferred()
            with self._lock:
                self._without_memory(lane, flight, error, deferred)
            self._finish(deferred)
        except Exception as error:
            self._cannot_open(lane, flight, error)
        else:
            self._start(lane, flight)
        finally:
            switching.end()
            self._openers.discard(threading.current_thread())

    def _open(self, lane: NativeLane) -> SharedContexts:
        source = None
        if self._share:
            with self._lock:
                source = SharedContexts.hold_first([other.contexts for other in self._lanes])
        with self._door.opening(lane, self._lanes):
            shared = SharedContexts.open(self._program, lane.spec.mask, source)
        lane.opened = shared.contexts
        self._guard(lane)
        return shared

    def _guard(self, lane: NativeLane) -> None:
        """Let the inferences of just opened contexts take turns with those of other sessions."""
        if self._sharer is not None and lane.opened is not None:
            self._sharer.guard((context.segment for context in native_contexts(lane.opened)), lane.spec.weight)

    @property
    def at_work(self) -> int:
        """Lanes that run something now."""
        return self._pool.busy

    @property
    def opened(self) -> int:
        """Lanes that have contexts."""
        return sum(lane.has_contexts for lane in self._lanes)

    def _may_open(self, core: int | None) -> bool:
        """Whether another lane may get contexts. Needs the lock."""
        if not self._elastic or self._sharer is None:
            return True
        here = any(lane.has_contexts and lane.spec.core == core for lane in self._lanes)
        return (core is not None and not here) or self._sharer.may_open(self.opened)

    def open_more(self) -> None:
        """Open lanes for what waits, as far as the sharer allows it now."""
        deferred = Deferred()
        with self._lock:
            for _ in range(self._pool.waiting - sum(lane.state is LaneState.BUSY for lane in self._lanes)):
                lane = self._cold_lane(None)
                if lane is None:
                    break
                self._serve_what_waits(lane, deferred)
        self._finish(deferred)

    def shed(self, keep: int) -> None:
        """Give contexts back until so many lanes have some; busy lanes do when they are through."""
        deferred = Deferred()
        with self._lock:
            opened = [lane for lane in self._lanes if lane.has_contexts]
            for lane in reversed(opened[keep:]):
                alone = self._pinned and sum(other.spec.core == lane.spec.core for other in opened) == 1
                if lane.state is not LaneState.IDLE or lane.number < 0 or alone or self._stopping:
                    continue
                opened.remove(lane)
                lane.shedding = True
                if self._pool.unequip(lane.number):
                    self._shed(lane, deferred)
        self._finish(deferred)

    def _shed(self, lane: NativeLane, deferred: Deferred) -> None:
        """A lane whose thread has no contexts any more gives them back. Needs the lock."""
        lane.shedding = False
        if lane.contexts is None or lane.leaving:
            return
        deferred.spoilt.append(lane.contexts)
        lane.contexts = None
        lane.state = LaneState.COLD
        self._cold += 1

    def notes(self) -> tuple[str, ...]:
        """Sentences on cores that were taken out of service."""
        return tuple(self._faults.notes)

    def describe(self) -> tuple[Any, ...]:
        """Facts about the contexts of each lane."""
        opened = [lane.contexts for lane in self._lanes]
        return tuple(shared.contexts.describe() if shared is not None else [] for shared in opened)

    # -- giving memory back

    def memory(self) -> tuple[int, int]:
        """Bytes of NPU memory of the contexts that are open, and how many lanes have contexts."""
        opened = [shared for lane in self._lanes if (shared := lane.contexts) is not None]
        return sum(shared.contexts.size for shared in opened), len(opened)

    def _without_memory(
        self, lane: NativeLane, flight: InFlight | None, error: NpuMemoryFull, deferred: Deferred
    ) -> bool:
        """There was no NPU memory for a lane; gives whether others can do the work, which has ended if not."""
        lane.state = LaneState.COLD
        self._cold += 1
        self._door.shut()
        others = self._door.keeps_out(lane, self._lanes)
        waiting = [flight] if flight is not None else []
        for ticket, other in list(self._flights.items()):  # what waits for this core alone, or for nobody at all
            bound = other.task.core == lane.spec.core and self._kept_out(lane.spec.core)
            if (bound or not others) and self._pool.cancel(ticket):
                waiting.append(other)
        for each in waiting:
            if others:
                each.task.taken_at = 0.0
                self._place(each, each is flight, deferred)
            else:
                self._flights.pop(each.task.ticket, None)
                each.task.error = error
                deferred.ended.append(each.task)
        return others

    def _start(self, lane: NativeLane, flight: InFlight | None) -> None:
        """Hand a lane's contexts to its native thread, with a first task."""
        assert lane.contexts is not None
        segments = [context.segment for context in native_contexts(lane.contexts.contexts)]
        deferred = Deferred()
        with self._lock:
            if lane.number < 0 and not lane.leaving:
                lane.number = self._pool.add(self._groups[lane.spec.core])
                if lane.number >= 0:
                    self._by_number[lane.number] = lane
            lane.state = LaneState.IDLE
            code = CLOSED if lane.leaving else lane.number
            if code >= 0 and flight is not None:
                task = flight.task
                code = self._pool.equip(lane.number, segments, task.step, flight.table, task.ticket)
            elif code >= 0:
                code = self._pool.equip(lane.number, segments)
        if code < 0:  # stopped meanwhile, or no thread to be had
            self._cannot_open(lane, flight, DeviceError("its thread cannot be started"))
        self._finish(deferred)
        self.changed()

    def _cannot_open(self, lane: NativeLane, flight: InFlight | None, error: Exception) -> None:
        deferred = Deferred()
        with self._lock:
            if lane.contexts is not None:
                deferred.spoilt.append(lane.contexts)
                lane.contexts = None
            lane.state = LaneState.GONE
            if not self._stopping and not lane.leaving:
                self._retire([lane], self._faults.cannot_open(lane, error), deferred)
            if flight is not None:
                flight.task.taken_at = 0.0
                self._place(flight, True, deferred)
        self._finish(deferred)

    # -- failures

    def _serve_what_waits(self, lane: NativeLane, deferred: Deferred) -> None:
        """Open a cold lane again at once if there is work for it. Needs the lock."""
        kept_out = self._stopping or self._door.keeps_out(lane, self._lanes)
        if lane.state is LaneState.COLD and lane.in_service and not kept_out and self._pool.waiting:
            self._begin_opening(lane, None, deferred)

    def _failed(self, lane: NativeLane, error: DeviceError, deferred: Deferred) -> None:
        """Count a failure of the lane's core. Needs the lock."""
        if why := self._faults.failed(lane, error):
            lanes = [other for other in self._lanes if other.spec.core == lane.spec.core and other.in_service]
            self._retire(lanes, why, deferred)

    def _retire(self, lanes: Iterable[NativeLane], why: str, deferred: Deferred) -> None:
        """Take lanes out of service; what waits for their core goes to the others. Needs the lock."""
        for lane in lanes:
            lane.leaving = True
            if lane.state is LaneState.COLD:
                lane.state = LaneState.GONE
                self._cold -= 1
            if lane.number >= 0:
                self._pool.retire(lane.number)
                if lane.state is not LaneState.BUSY:  # whoever opens it will find that it is to go
                    deferred.dismissed.append(lane)
        served = {lane.spec.core for lane in self._lanes if lane.in_service}
        self._faults.retired(why, self._lanes)
        for core, group in self._groups.items():
            if core not in served:
                self._pool.close_group(group)
        if not served:
            for ticket, flight in list(self._flights.items()):
                if self._pool.cancel(ticket):
                    del self._flights[ticket]
                    self._end_without_core(flight.task, deferred)
        elif self._pool.waiting:
            cold = self._cold_lane(None)
            if cold is not None:
                self._serve_what_waits(cold, deferred)

    # -- without the lock

    def _finish(self, deferred: Deferred) -> None:
        """Do what a critical section has left."""
        for lane, flight in deferred.opening:
            name = f"ort_rknn opens lane {lane.spec.index}"
            thread = threading.Thread(target=self._open_there, args=(lane, flight), name=name, daemon=True)
            self._openers.add(thread)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending, or the system has no thread left
                self._openers.discard(thread)
                self._open_there(lane, flight)
        if deferred.crowded and self._sharer is not None:
            shielded(self._sharer.make_room)
        for contexts in deferred.spoilt:
            shielded(contexts.close)
        if deferred.spoilt:
            self.changed()
        for lane in deferred.dismissed:
            if not self._pool.works(lane.number):
                shielded(self._dismiss, lane)
        for task in deferred.ended:
            shielded(task.done, task)

    def _dismiss(self, lane: NativeLane) -> None:
        """Close a lane's contexts once its thread has ended; one that is still at work comes back here."""
        if lane.number >= 0 and not self._pool.wait_ended(lane.number, PATIENCE_S):
            return
        with self._lock:
            contexts, lane.contexts = lane.contexts, None
            if lane.state is LaneState.COLD:
                self._cold -= 1
            lane.state = LaneState.GONE
        if contexts is not None:
            contexts.close()
