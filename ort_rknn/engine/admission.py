"""Admission: which job may come in, and when: room in the queue, slow callbacks, pacing, and jobs parked outside."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ort_rknn.engine.lanes.wake_ups import BriefLock, SpaceSignal
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import SessionClosed, SubmitTimeout

if TYPE_CHECKING:
    from ort_rknn.engine.callbacks import Delivery
    from ort_rknn.engine.lanes.base import Lanes
    from ort_rknn.engine.pacing import Pacer
    from ort_rknn.engine.submission import Job

__all__ = ["Admission", "may_pass"]


MOST_BEHIND = 1024
"""Jobs that may wait for a core that is behind while others work on: 1.7 s of three cores of 5 ms. A guess."""

MOST_BEHIND_BYTES = 64 << 20
"""Inputs of those, in bytes. A guess for boards with 4 GB."""


class Admission:
    """The door of an engine.

    Args:
        options: The limits.
        lock: The engine's: a job is let in under it.
        room: Where submitters wait; touched by whatever takes a job out of the queue.
        delivery: Tells whether callbacks are behind.
        pacer: Tells how long to hold back, if there is pacing.
        clock: Seconds, monotonic.
        waiting: How many jobs wait for a lane or a CPU worker.
        behind: Whether a job may come in although the queue is full: it is full of jobs for cores that are behind.
        accept: Answers for a job from now on. Called under the lock.
        send: Starts an accepted job on its way. Called under the lock.
        drop_oldest: Ends the job that has waited longest; ``False`` when it cannot.
    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        lock: BriefLock,
        room: Lanes | SpaceSignal,
        delivery: Delivery,
        pacer: Pacer | None,
        clock: Callable[[], float],
        waiting: Callable[[], int],
        behind: Callable[[Job], bool],
        accept: Callable[[Job], None],
        send: Callable[[Job], None],
        drop_oldest: Callable[[], bool],
    ) -> None:
        self.room = room
        self._options = options
        self._lock = lock
        self._delivery = delivery
        self._pacer = pacer
        self._clock = clock
        self._waiting = waiting
        self._behind = behind
        self._accept = accept
        self._send = send
        self._drop_oldest = drop_oldest
        self._most = options.max_queue_size
        self.seen = 0  # jobs that waited when a job last asked to come in
        self._parked: deque[Job] = deque()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether nobody is let in any more."""
        return self._closed

    def check_open(self) -> None:
        """Refuse who comes too late.

        Raises:
            SessionClosed: The engine is closed.
        """
        if self._closed:
            raise SessionClosed("the session is closed")

    def admit(self, job: Job, timeout: float | None) -> None:
        """Wait until there is room for a job, then let it in.

        Args:
            job: Not accepted yet.
            timeout: Seconds to wait at most; default: ``submit_timeout_ms``.

        Raises:
            SubmitTimeout: There was no room in time.
            SessionClosed: The engine is closed.
        """
        if timeout is None:
            timeout = self._options.submit_timeout_ms / 1000
        if self._options.overflow == "raise":
            timeout = 0.0
        deadline: float | None = None
        slept = False
        try:
            while True:
                mark = self.room.mark()
                with self._lock:
                    wait = self._hold_back(job)
                    if wait == 0.0:
                        self._accept(job)
                        self._send(job)
                        break
                if self._options.overflow == "drop_oldest" and self._is_full(job) and self._drop_oldest():
                    continue
                now = self._clock()
                deadline = now + timeout if deadline is None else deadline
                left = deadline - now
                if left <= 0:
                    raise SubmitTimeout(self._why_full(timeout))
                # Who waits for less is woken first: it can use any room, the others could not use room it has to leave.
                first = job._callback is None or self._delivery.here
                self.room.wait(mark, left if wait is None else min(left, wait), first=first)
                slept = True
        except (SubmitTimeout, SessionClosed):
            raise
        except BaseException:  # an interrupt may have swallowed a wake-up that was meant for the next in line
            self.room.touch()
            raise
        if slept:  # there may be room for the next in line as well: one event can make room for several
            self.room.touch()

    def _hold_back(self, job: Job, parked: bool = False) -> float | None:
        """0 when the job may go; seconds until it may; ``None`` when something has to happen first. Needs the lock."""
        if not parked:
            self.check_open()
            if self._parked:
                return None
        if self._is_full(job):
            return None
        # The delivery thread must not wait for itself, and who wants no callback need not wait for others' callbacks.
        delivery = self._delivery
        if delivery.saturated and job._callback is not None and not delivery.here and self._must_wait(job):
            return None
        if self._pacer is not None and not parked:
            return self._pacer.delay()
        return 0.0

    def _must_wait(self, job: Job) -> bool:
        """Whether a job waits for callbacks: those that are due, not those held up by a core that is behind."""
        return self._delivery.ready >= self._options.max_callback_queue_size or not self._behind(job)

    def _is_full(self, job: Job) -> bool:
        self.seen = waiting = self._waiting()
        return waiting >= self._most and not self._behind(job)

    def _why_full(self, timeout: float) -> str:
        return (
            f"no room for another job within {timeout:g} s: {self._waiting()} wait for a core "
            f"(max_queue_size={self._options.max_queue_size}), {self._delivery.undelivered} for their callback "
            f"(max_callback_queue_size={self._options.max_callback_queue_size})"
        )

    def park(self, job: Job) -> None:
        """Accept a job whether there is room or not; it goes on its way when there is.

        Raises:
            SessionClosed: The engine is closed.
        """
        with self._lock:
            self.check_open()
            self._accept(job)
            self._parked.append(job)
        self.pump()

    def unpark(self, job: Job) -> bool:
        """Take a parked job away; ``False`` when it is not parked. Needs the lock."""
        if job not in self._parked:
            return False
        self._parked.remove(job)
        return True

    def pump(self) -> None:
        """Send parked jobs on their way as far as there is room."""
        if not self._parked:
            return
        with self._lock:
            while self._parked and self._hold_back(self._parked[0], parked=True) == 0.0:
                self._send(self._parked.popleft())
            emptied = not self._parked
        if emptied:
            self.room.touch(everyone=True)

    def space_freed(self) -> None:
        """Something happened that may have made room."""
        self.room.touch()
        self.pump()

    def close(self) -> None:
        """Let nobody in any more. Needs the lock; who waits is to be woken after it."""
        self._closed = True


def may_pass(job: Job, kept: int, lanes: Lanes, cores: Sequence[int]) -> bool:
    """Whether what waits, waits for cores of the schedule that are behind, while another core would stand still.

    Jobs go to the cores in turn, so those for a core that is behind must come in for the others to get theirs.

    Args:
        job: Asks to come in.
        kept: Jobs that wait, for a core or for their callback.
        lanes: The lanes.
        cores: The schedule's.
    """
    size = sum(getattr(value, "nbytes", 0) for value in job._values.values())
    if kept >= MOST_BEHIND or kept * size > MOST_BEHIND_BYTES:
        return False
    return any(not lanes.waiting_on(core) for core in cores)
