"""The engine proper: answers for the jobs that were let in, sends them on their way, ends each exactly once.

:class:`ort_rknn.engine.engine.Engine` is the handle users hold; threads and jobs hold this, so that dropping the handle
closes the engine.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ort_rknn.accounting.idle_unload import IDLE
from ort_rknn.accounting.published import NoPage, Page, shower
from ort_rknn.devices.program import Program
from ort_rknn.engine.admission import Admission, may_pass
from ort_rknn.engine.callbacks import Delivery
from ort_rknn.engine.cpu_workers import CpuWorkers
from ort_rknn.engine.job_runner import Fallback, JobRunner
from ort_rknn.engine.lanes.base import Lanes
from ort_rknn.engine.lanes.schedule import LanePlan
from ort_rknn.engine.lanes.wake_ups import BriefLock, SpaceSignal
from ort_rknn.engine.options import EngineOptions
from ort_rknn.engine.pacing import Pacer
from ort_rknn.engine.process_exit import FORKED, forget, watch
from ort_rknn.engine.stats import Counters
from ort_rknn.engine.submission import Job, Submission
from ort_rknn.errors import DeviceError, RknnError, SessionClosed
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.engine.job import InferenceJob
    from ort_rknn.engine.observer import Observer

__all__ = ["CLOSE_PATIENCE_S", "JobManager"]

CLOSE_PATIENCE_S = 30.0
"""How long a close waits for the NPU without one inference ending. A guess: the driver gives a job up after 6 s."""

EXIT_GRACE_S = 10.0
"""How long the end of the interpreter waits for jobs. EZ RKNN Async's limit for a submission, for want of another."""


class JobManager:
    """Keeps the books of an :class:`~ort_rknn.engine.engine.Engine`: jobs, lanes and their ends."""

    def __init__(
        self,
        program: Program,
        options: EngineOptions,
        plan: LanePlan,
        lanes: Lanes | None,
        *,
        fallback: Fallback | None,
        on_closed: Callable[[], object] | None,
        print_perf: bool,
        observer: Observer | None,
        clock: Callable[[], float],
        page: Page | None = None,
    ) -> None:
        self.page: Page | NoPage = page or NoPage()
        self.program = program
        self.options = options
        self.plan = plan
        self.lanes = lanes
        self.counters = Counters()
        self.pacer = Pacer(plan.cores, clock) if options.enable_pacing else None
        self._on_closed = on_closed
        self._clock = clock
        # Letting in may take a switch interval beside a busy thread; who ends a job needs but the books, taken last.
        self._lock, self._books = BriefLock(), BriefLock()
        self._idle = threading.Condition(self._books)
        self._cores_in_turn = tuple(dict.fromkeys(plan.pins or ()))
        self.workers = CpuWorkers(self._space_freed, options.cpu_workers)
        self.delivery = Delivery(
            ordered=options.sequential_callbacks,
            limit=options.max_callback_queue_size,
            on_started=self._space_freed,
            every=len(self._cores_in_turn) > 1,
        )
        self._admission = Admission(
            options,
            lock=self._lock,
            room=lanes if lanes is not None else SpaceSignal(),
            delivery=self.delivery,
            pacer=self.pacer,
            clock=clock,
            waiting=self._waiting,
            behind=self._behind,
            accept=self._accept,
            send=self._send,
            drop_oldest=self._drop_oldest,
        )
        self._runner = JobRunner(
            program,
            lanes,
            self.workers,
            pins=plan.pins,
            fallback=fallback,
            pacer=self.pacer,
            print_perf=print_perf,
            observer=observer,
            clock=clock,
            end=self._end,
            time_limit=bool(options.run_timeout_ms),
        )
        self._jobs: dict[int, Job] = {}
        self._ids = itertools.count()
        self._active: deque[int] = deque()  # as long as there are jobs not ended or not delivered, and calls of run
        self._stopping = self._stopped = self._awaited = False  # awaited: by anybody, ever, until nothing is active
        self._overflow = options.overflow
        self._forked = False
        watch(self)
        if lanes is not None and options.idle_unload_s:
            IDLE.watch(lanes, options.idle_unload_s)
        if lanes is not None and page is not None:
            lanes.changed = shower(page, lanes)
            lanes.changed()

    def run(self, feed: Mapping[str, Any], output_names: Sequence[str] | None, run_options: Any = None) -> list[Any]:
        """One inference in the calling thread."""
        if self._forked:
            raise RknnError(FORKED)
        route = self.program.route(output_names)
        job_id, begun, failed = next(self._ids), -1.0, True
        self._active.append(job_id)  # no lock: it looks at the door next, and who shuts the door looks here next
        try:
            self._admission.check_open()
            self.page.show_active(len(self._active))
            begun = self._clock()
            results = self._runner.run(job_id, feed, route, run_options)
            failed = False
            return results
        finally:
            self._leave(self._clock() - begun if begun >= 0 else -1.0, failed)

    def count_run(self, seconds: float) -> None:
        """Count an inference of the session that took another way."""
        with self._books:
            self.page.count(seconds)

    # -- submit

    def submit(self, submission: Submission) -> InferenceJob:
        """Accept a job, when there is room for it."""
        from ort_rknn.engine.job import InferenceJob  # and concurrent.futures, which sessions that only run do without

        if self._forked:
            raise RknnError(FORKED)
        job = InferenceJob(self, submission.callback, submission.user_data, submission.run_options)
        self._runner.load(job, submission.output_names, submission.feed, submission.copy)
        if submission.awaited and self._overflow != "block":
            self._admission.admit(job, 0.0)
        elif submission.parked:
            self._admission.park(job)
        else:
            self._admission.admit(job, submission.timeout)
        return job

    def start(self, job: Job, output_names: Sequence[str], feed: Mapping[str, Any]) -> None:
        """Accept a job of which only its callback will tell, when there is room for it."""
        if self._forked:
            raise RknnError(FORKED)
        self._runner.load(job, output_names, feed)
        self._admission.admit(job, None)

    def _accept(self, job: Job) -> None:
        """Number a job and answer for it from now on. Needs the lock, but not the books: nobody looks for it yet."""
        job._accepted_at = self._clock()
        job.job_id = job_id = next(self._ids)
        self._active.append(job_id)
        self._jobs[job_id] = job
        self.page.show_active(len(self._active))
        self.counters.accepted += 1
        if job._callback is not None:
            self.delivery.expect(job_id)
        if self.pacer is not None:
            self.pacer.accepted()

    def _send(self, job: Job) -> None:
        """Start a job on its way. Needs the lock: the look for room and the push are one."""
        self._runner.proceed(job)
        if self._admission.seen >= self.counters.most_waiting:
            self.counters.most_waiting = max(self.counters.most_waiting, self.waiting)

    def _space_freed(self) -> None:
        self._admission.space_freed()

    @property
    def waiting(self) -> int:
        """Jobs in the queue: they wait for a lane or a CPU worker."""
        waiting = self._waiting()
        return min(waiting, self.options.max_queue_size) if len(self._cores_in_turn) > 1 else waiting

    @property
    def behind(self) -> int:
        """Jobs that were let in beyond the queue's limit, see :meth:`_behind`."""
        return max(0, self._waiting() - self.options.max_queue_size) if len(self._cores_in_turn) > 1 else 0

    def _waiting(self) -> int:
        return self.workers.waiting if self.lanes is None else self.workers.waiting + self.lanes.waiting

    def _behind(self, job: Job) -> bool:
        cores, kept = self._cores_in_turn, self._waiting() + self.delivery.undelivered
        return len(cores) > 1 and self.lanes is not None and may_pass(job, kept, self.lanes, cores)

    def _drop_oldest(self) -> bool:
        oldest = next((job for job in list(self._jobs.values()) if job._waits), None)
        return oldest is not None and self._cancel(oldest, "it was dropped to make room for a newer one")

    def _end(
        self,
        job: Job,
        *,
        result: list[Any] | None = None,
        error: BaseException | None = None,
        cancelled: str = "",
    ) -> None:
        """End a job, unless it has ended: who takes it out of the table ends it."""
        with self._books:
            if self._jobs.pop(job.job_id, None) is None:
                return
            self.counters.completed += result is not None
            self.counters.failed += error is not None
            self.counters.cancelled += bool(cancelled)
            job._ended_at = self._clock()
            if not cancelled:
                self.page.count(job._ended_at - job._accepted_at, error is not None)
        self._runner.ended(job, cancelled or (str(error) if error is not None else ""))
        job._settle(result or [], error, cancelled)
        if job._callback is None:
            self._leave()
        else:
            self.delivery.post(job.job_id, job._call_back, self._leave)
        self._admission.pump()

    def cancel_waiting(self, job: Job) -> bool:
        """Cancel a job that waits; ``False`` when it is too late."""
        return self._cancel(job, "it was cancelled")

    def _cancel(self, job: Job, why: str) -> bool:
        with self._lock:
            task, work = job._task, job._work
            if not self._admission.unpark(job):
                if job._position or job._begun_at:
                    return False
                if task is not None and self.lanes is not None:
                    if not self.lanes.withdraw(task):
                        return False
                elif work is None or not self.workers.withdraw(work):
                    return False
            self.counters.dropped += why.startswith("it was dropped")
        self._end(job, cancelled=why)
        return True

    def later(self, function: Callable[[], object]) -> None:
        """Run user code on the delivery thread."""
        self.delivery.later(function)

    # -- the end

    def _leave(self, seconds: float = -1.0, failed: bool = False) -> None:
        """A job, or a call of run that took so long, is over."""
        with self._books:
            self._active.pop()
            if seconds >= 0:
                self.counters.runs += 1
                self.page.count(seconds, failed, len(self._active))
            else:
                self.page.show_active(len(self._active))
            stop = self._awaited and self._must_stop()
            if self._awaited and not self._active:
                self._idle.notify_all()
        self._admission.pump()
        if stop:
            self._stop()

    def _must_stop(self) -> bool:
        """Whether the caller has to stop everything. Needs the books."""
        if not self._admission.closed or self._active or self._stopping:
            return False
        self._stopping = True
        return True

    def _stop(self) -> None:
        if self.lanes is not None:
            IDLE.forget(self.lanes)
            self.lanes.stop()
        self.page.close()
        self.workers.stop()
        self.delivery.stop()
        forget(self)
        try:
            if self._on_closed is not None:
                self._on_closed()
        finally:
            with self._books:
                self._stopped = True
                self._idle.notify_all()

    def wait_all(self, timeout: float | None) -> bool:
        """Wait until all accepted jobs have ended and their callbacks have returned."""
        if self.delivery.here:
            raise RuntimeError("wait_all() in a callback would wait for that callback")
        with self._idle:
            self._awaited = True
            return self._idle.wait_for(lambda: not self._active, timeout)

    def close(self, *, wait: bool, cancel_jobs: bool) -> None:
        """Take no more jobs; stop when those accepted have ended."""
        if self._forked:
            return
        with self._lock:
            self._admission.close()
        with self._books:  # not in the other: the garbage collector may close an engine in the midst of its books
            self._awaited = True
            stop = self._must_stop()
        self._admission.room.touch(everyone=True)
        if stop:
            self._stop()
        if cancel_jobs:
            self._cancel_all("the session was closed")
        if wait and not self.delivery.here:
            self._join(None if self._await_end() else 1.0)

    def _await_end(self) -> bool:
        """Wait until all that was accepted has ended; ``False`` when the NPU has died over it, and that was given up.

        CPU steps and callbacks may take as long as they like.
        """
        seen, waited = None, 0
        with self._idle:
            while not self._idle.wait_for(lambda: self._stopped, CLOSE_PATIENCE_S / 10):
                now = self._progress()
                waited = waited + 1 if now == seen and not (self.workers.busy or self.delivery.calling) else 0
                seen = now
                if waited >= 10:
                    break
        if not self._stopped:
            self._give_up(f"no inference has ended within {CLOSE_PATIENCE_S:g} s after the session was closed")
            return False
        return True

    def _progress(self) -> object:
        """Differs from what it was whenever something has ended since."""
        lanes = self.lanes.stats() if self.lanes is not None else ()
        ended = sum(lane.tasks + lane.failures for lane in lanes)
        return ended, len(self._active), self.workers.done, self.delivery.delivered

    def _give_up(self, why: str) -> None:
        """End what the NPU never will, and stop without it."""
        logger().warning("a session is closed while its NPU hangs: %s", why)
        self._cancel_all(why)
        for job in list(self._jobs.values()):
            self._end(job, error=DeviceError(why))
        with self._books:  # calls of run() may hang for ever, in threads that are not ours
            stop = not self._stopping
            self._stopping = True
        if stop:
            self._stop()

    def _cancel_all(self, why: str) -> None:
        for job in list(self._jobs.values()):
            self._cancel(job, why)

    def _join(self, timeout: float | None) -> None:
        if self.lanes is not None:
            self.lanes.join(timeout)
        self.workers.join(timeout)
        self.delivery.join(timeout)

    def close_at_exit(self) -> None:
        """The interpreter ends: let what was accepted end, but not for ever."""
        if self._forked:
            return
        self.close(wait=False, cancel_jobs=False)
        with self._idle:
            done = self._idle.wait_for(lambda: self._stopped, EXIT_GRACE_S)
        if done:
            self._join(EXIT_GRACE_S)
            return
        self._cancel_all("the interpreter is exiting")
        for job in list(self._jobs.values()):
            self._end(job, error=SessionClosed("the interpreter is exiting and the inference has not ended"))
        with self._idle:  # their callbacks
            self._idle.wait_for(lambda: not self._active, EXIT_GRACE_S)

    def after_fork(self) -> None:
        """In the child: no thread came along, and no lock can be trusted."""
        self._forked = True
        for job in list(self._jobs.values()):
            job._orphan(RknnError(FORKED))
        self._jobs.clear()
