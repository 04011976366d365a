"""The engine: what a session runs its jobs on."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ort_rknn.accounting.published import Page
from ort_rknn.devices.program import Program
from ort_rknn.engine.job_manager import JobManager
from ort_rknn.engine.job_runner import Fallback
from ort_rknn.engine.lanes.base import LaneOpener, Lanes, LaneSetup, LanesFactory
from ort_rknn.engine.lanes.schedule import LanePlan, plan_lanes
from ort_rknn.engine.lanes.threads import ThreadLanes
from ort_rknn.engine.options import EngineOptions
from ort_rknn.engine.sharing.board import board_of
from ort_rknn.engine.stats import EngineStats, wants_perf_lines
from ort_rknn.engine.submission import Submission
from ort_rknn.errors import InvalidOption
from ort_rknn_converters.util.frozen import replace

if TYPE_CHECKING:
    from ort_rknn.engine.job import InferenceJob
    from ort_rknn.engine.observer import Observer
    from ort_rknn.engine.sharing.arbiter import Gate
    from ort_rknn.engine.sharing.board import Sharer
    from ort_rknn.engine.submission import Callback, Job

__all__ = ["Engine", "best_lanes"]


def best_lanes(program: LaneOpener, setup: LaneSetup) -> Lanes:
    """Makes native lanes where the device and the native library allow it, else Python threads."""
    if getattr(getattr(program, "device", None), "native_lanes", False):
        from ort_rknn.engine.lanes.native import NativeLanes

        return NativeLanes(program, setup)
    return ThreadLanes(program, setup)


def _cores(plan: LanePlan, device_cores: int) -> list[int]:
    """Returns the cores that lanes are bound to; all where the driver chooses."""
    return sorted({core for lane in plan.lanes for core in lane.cores}) or list(range(device_cores))


def _checked(reserve: int, cores: int) -> int:
    if reserve and reserve >= cores:
        raise InvalidOption(f"reserve must leave a core for the others: at most {cores - 1} of {cores}, not {reserve}")
    return reserve


def _leave(sharer: Sharer, on_closed: Callable[[], object] | None) -> None:
    sharer.leave()
    if on_closed is not None:
        on_closed()


class Engine:
    """Executes inferences of one program on all cores of its device.

    Feeds are trusted: a dictionary from each input's name to a C-contiguous array of the declared dtype and shape.
    Results are fresh arrays that belong to the caller. An engine that is dropped without :meth:`close` finishes what it
    accepted, then closes itself.

    Args:
        program: What to execute.
        options: How; the defaults when ``None``.
        fallback: ``(feed, output_names, run_options) -> results``, used once every core is out of service.
        lanes: Makes the lanes; default: native ones where the device allows them, else Python threads.
        on_closed: Called when the contexts are closed (to close the device).
        observer: Is told of every step and every inference (to profile).
        about: Facts to show in ``ort-rknn top``; ``None`` shows nothing.
        clock: Seconds, monotonic; for tests.

    Raises:
        InvalidOption: The options name cores that the device does not have.
        DeviceUnavailable: The device cannot be opened.
        DeviceError: The device refuses the program.
    """

    def __init__(
        self,
        program: Program,
        options: EngineOptions | None = None,
        *,
        fallback: Fallback | None = None,
        lanes: LanesFactory = best_lanes,
        on_closed: Callable[[], object] | None = None,
        observer: Observer | None = None,
        about: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.options = options = options or EngineOptions()
        self.program = program
        perf = wants_perf_lines() if options.print_perf is None else options.print_perf
        plan = LanePlan((), None)
        made, sharer, page = None, None, None
        if program.has_npu:
            assert program.device is not None
            native = lanes is best_lanes and getattr(program.device, "native_lanes", False)
            board = board_of(program.device)
            spreads = getattr(program.device, "spreads", False)
            first = board.next_core() if board is not None and not spreads else 0
            plan = plan_lanes(options, program.device.cores, native=native, floats=spreads, first=first)
            if board is not None:
                sharer = board.join(options.priority, _checked(options.reserve, board.cores), options.arbiter)
                on_closed = partial(_leave, sharer, on_closed)
            setup = LaneSetup(
                plan.lanes,
                share=not options.disable_dup_context,
                time_limit=options.run_timeout_ms / 1000 or None,
                phases=perf or options.enable_pacing or observer is not None,
                clock=clock,
                sharer=sharer,
                elastic=plan.elastic,
            )
            try:
                made = lanes(program, setup)
            except BaseException:
                if sharer is not None:
                    sharer.leave()
                raise
            if about is not None:
                page = Page({**about, "cores": _cores(plan, program.device.cores)})
        self._sharer = sharer
        self._manager = JobManager(
            program,
            options,
            plan,
            made,
            fallback=fallback,
            on_closed=on_closed,
            print_perf=perf,
            observer=observer,
            clock=clock,
            page=page,
        )
        self._finalizer = weakref.finalize(self, self._manager.close, wait=False, cancel_jobs=False)
        self._finalizer.atexit = False  # the interpreter's end has a way of its own, which waits

    @property
    def run_checked(self) -> Callable[[Mapping[str, Any], Sequence[str]], list[Any]]:
        """Way of :meth:`run` for callers that run often: the same, one call less."""
        return self._manager.run

    @property
    def width(self) -> int:
        """Jobs that are accepted without waiting: those being executed and those that may wait."""
        return max(1, len(self._manager.plan.lanes)) + self.options.max_queue_size

    def run(
        self, feed: Mapping[str, Any], output_names: Sequence[str] | None = None, run_options: Any = None
    ) -> list[Any]:
        """Run one inference and return its outputs.

        On an idle lane it is executed in the calling thread. It waits for no room in the queue, so it may be called
        anywhere, callbacks included.

        Args:
            feed: The inputs; not copied.
            output_names: Which outputs, in which order; all when ``None`` or empty.
            run_options: An ``onnxruntime.RunOptions``: for the CPU steps; ``terminate`` is heeded before each step.

        Raises:
            DeviceError: The inference failed (InferenceTimeout: it took longer than ``run_timeout_ms``).
            SessionClosed: The engine is closed.
        """
        return self._manager.run(feed, output_names, run_options)

    def submit(
        self,
        feed: Mapping[str, Any],
        output_names: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
        run_options: Any = None,
        callback: Callback | None = None,
        user_data: Any = None,
        copy: bool = True,
    ) -> InferenceJob:
        """Queue one inference; waits for room in the queue.

        Args:
            feed: The inputs.
            output_names: As for :meth:`run`.
            timeout: Seconds to wait for room, 0 refuses at once; default: ``submit_timeout_ms``.
            run_options: As for :meth:`run`.
            callback: Called as ``callback(results, user_data, err)`` on the delivery thread when the job has ended; on
                failure ``results`` is ``[]`` and ``err`` says why.
            user_data: Given to the callback.
            copy: Copy the inputs, so that the caller may overwrite them as soon as this returns.

        Raises:
            SubmitTimeout: There was no room in time; no job is left behind.
            SessionClosed: The engine is closed.
        """
        return self.accept(
            Submission(output_names, feed, run_options, timeout, callback=callback, user_data=user_data, copy=copy)
        )

    def submit_parked(
        self,
        feed: Mapping[str, Any],
        output_names: Sequence[str] | None = None,
        *,
        run_options: Any = None,
        copy: bool = True,
    ) -> InferenceJob:
        """Accept an inference without waiting, whether there is room or not: for event loops (``await`` the job).

        A job that finds no room waits outside the queue, in order, until there is some.
        """
        return self.accept(Submission(output_names, feed, run_options, parked=True, copy=copy))

    def accept(self, submission: Submission) -> InferenceJob:
        """Queues one inference as its submission says; see :meth:`submit` and :meth:`submit_parked`.

        Raises:
            SubmitTimeout: There was no space in time; no job is left behind.
            SessionClosed: The engine is closed.
        """
        return self._manager.submit(submission)

    def start(self, job: Job, output_names: Sequence[str], feed: Mapping[str, Any]) -> None:
        """Queues one inference of which only the job's callback will tell.

        The feed is copied. Raises as :meth:`submit` does.
        """
        self._manager.start(job, output_names, feed)

    def later(self, function: Callable[[], object]) -> None:
        """Run user code on the delivery thread, among the callbacks."""
        self._manager.later(function)

    def wait_all(self, timeout: float | None = None) -> bool:
        """Wait until all accepted jobs have ended and their callbacks have returned.

        Args:
            timeout: Seconds; ``None`` waits for ever.

        Returns:
            Whether they have.
        """
        return self._manager.wait_all(timeout)

    def close(self, *, wait: bool = True, cancel_jobs: bool = False) -> None:
        """Take no more jobs, let those accepted end, then give everything back. May be called twice.

        Args:
            wait: Return only then. In a callback it returns at once: the callback is one of the things to wait for.
            cancel_jobs: Cancel the jobs that have not begun.
        """
        self._finalizer.detach()  # it holds on to all that the engine is made of, users' devices included
        self._manager.close(wait=wait, cancel_jobs=cancel_jobs)

    def stats(self) -> EngineStats:
        """Counts of what was done so far."""
        manager = self._manager
        counters = manager.counters
        npu_bytes, open_contexts = manager.lanes.memory() if manager.lanes is not None else (0, 0)
        return EngineStats(
            accepted=counters.accepted,
            completed=counters.completed,
            failed=counters.failed,
            cancelled=counters.cancelled,
            dropped=counters.dropped,
            runs=counters.runs,
            waiting=manager.waiting,
            behind=manager.behind,
            undelivered=manager.delivery.undelivered,
            most_waiting=counters.most_waiting,
            mean_inference_s=manager.pacer.mean if manager.pacer is not None else None,
            lanes=manager.lanes.stats() if manager.lanes is not None else (),
            notes=manager.lanes.notes() if manager.lanes is not None else (),
            npu_bytes=npu_bytes,
            open_contexts=open_contexts,
            given_back=manager.lanes.given_back if manager.lanes is not None else 0,
        )

    def count_run(self, seconds: float) -> None:
        """Count an inference of the session that took another way than the engine's."""
        self._manager.count_run(seconds)

    def contexts(self) -> list[Mapping[str, Any]]:
        """Describes each open context as its device does; waits for the inferences under way."""
        lanes = self._manager.lanes
        return [] if lanes is None else [facts for each in lanes.describe() for facts in each]

    @property
    def gates(self) -> Callable[[int], Gate | None] | None:
        """Makes gates for inferences that a session runs beside the engine, by the cores that one takes.

        ``None`` where nothing is shared. It does not keep the engine alive.
        """
        return None if self._sharer is None else self._sharer.gate

    def plan(self) -> LanePlan:
        """The lanes, and what happened to them since."""
        manager = self._manager
        return replace(manager.plan, notes=manager.lanes.notes() if manager.lanes is not None else ())
