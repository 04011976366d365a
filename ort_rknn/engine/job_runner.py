"""A job's way through its steps: NPU steps on lanes, CPU steps on CPU workers, or all of it in the caller's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ort_rknn.devices.program import Program, Route, RoutedStep, check_terminated
from ort_rknn.engine.lanes.base import Lanes, NoCoreLeft, Task
from ort_rknn.engine.lanes.input_copies import copy_of
from ort_rknn.engine.lanes.schedule import core_of
from ort_rknn.engine.stats import print_perf_line

if TYPE_CHECKING:
    from ort_rknn.engine.cpu_workers import CpuWorkers
    from ort_rknn.engine.job import InferenceJob
    from ort_rknn.engine.observer import Observer
    from ort_rknn.engine.pacing import Pacer

__all__ = ["Fallback", "JobRunner"]

Fallback = Callable[[Mapping[str, Any], Sequence[str], Any], list[Any]]
"""``(feed, output_names, run_options) -> results``: serves jobs when no core is left."""


class End(Protocol):
    """Ends a job, once."""

    def __call__(
        self, job: InferenceJob, *, result: list[Any] | None = None, error: BaseException | None = None
    ) -> None:
        """End it with a result or an error."""


class JobRunner:
    """Walks jobs through the steps of a program.

    Args:
        program: The steps.
        lanes: For the NPU steps; ``None`` when there are none.
        workers: For the CPU steps of submitted jobs.
        pins: Core of each job in turn, or ``None``.
        fallback: For when no core is left.
        pacer: Learns the inference times, if there is pacing.
        print_perf: Whether to print a line per inference.
        observer: Is told of every step.
        clock: Seconds, monotonic.
        end: Called with a job that has arrived or failed.
        time_limit: Whether inferences have one.
    """

    def __init__(
        self,
        program: Program,
        lanes: Lanes | None,
        workers: CpuWorkers,
        *,
        pins: Sequence[int] | None,
        fallback: Fallback | None,
        pacer: Pacer | None,
        print_perf: bool,
        observer: Observer | None,
        clock: Callable[[], float],
        end: End,
        time_limit: bool = False,
    ) -> None:
        self._program = program
        self._lanes = lanes
        self._workers = workers
        self._pins = pins
        self._fallback = fallback
        self._pacer = pacer
        self._print_perf = print_perf
        self._observer = observer
        self._clock = clock
        self._end = end
        plain = pins is None and pacer is None and observer is None and not print_perf and not time_limit
        self._direct = getattr(lanes, "run_direct", None) if plain else None
        self._places: dict[int, dict[str, tuple[int, int]]] = {}

    # -- in the caller's thread

    def run(self, job_id: int, feed: Mapping[str, Any], route: Route, run_options: Any) -> list[Any]:
        """Walk all the way in the calling thread; only where no lane is idle another thread does the NPU step."""
        observer = self._observer
        if observer is None:
            whole = route.whole
            if whole is not None and run_options is None and self._direct is not None:
                results: list[Any] | None = self._direct(whole.npu, [feed[name] for name in whole.step.inputs], None)
                if results is not None:
                    return results
            return self._run(job_id, feed, route, run_options)
        begun, failure = self._clock(), ""
        try:
            return self._run(job_id, feed, route, run_options)
        except BaseException as error:
            failure = str(error) or type(error).__name__
            raise
        finally:
            observer.inference(job_id, begun, self._clock() - begun, failure)

    def _run(self, job_id: int, feed: Mapping[str, Any], route: Route, run_options: Any) -> list[Any]:
        values = dict(feed)
        try:
            for routed in route.steps:
                if run_options is not None:
                    check_terminated(run_options)
                results = None
                if routed.npu < 0:
                    results = self._on_cpu(job_id, routed, values, run_options)
                elif self._direct is not None:
                    results = self._direct(routed.npu, [values[name] for name in routed.step.inputs], routed.wanted)
                if results is None:
                    results = self._run_npu(job_id, routed, values)
                for name, value in zip(routed.given, results, strict=True):
                    values[name] = value
                for name in routed.forget:
                    del values[name]
        except NoCoreLeft:
            if self._fallback is None:
                raise
            return self._fallback(feed, route.outputs, run_options)
        return route.collect(values)

    def _on_cpu(self, job_id: int, routed: RoutedStep, values: Mapping[str, Any], run_options: Any) -> Sequence[Any]:
        if self._observer is None:
            return self._program.run_cpu(routed, values, run_options)
        begun = self._clock()
        results = self._program.run_cpu(routed, values, run_options)
        self._observer.step(job_id, routed.step, begun, self._clock() - begun)
        return results

    def _run_npu(self, job_id: int, routed: RoutedStep, values: dict[str, Any]) -> Sequence[Any]:
        assert self._lanes is not None
        task = self._task(job_id, routed, values, _nobody_waits)
        if not self._lanes.run_here(task):
            ended = threading.Lock()
            ended.acquire()  # no limit: a lock of this call's own, which is free
            task.done = lambda _: ended.release()
            self._lanes.push(task)
            try:
                # no limit: the lanes end every task, by run_timeout_ms where that is set
                ended.acquire()
            except BaseException:  # an interrupt: nobody waits for the result any more
                self._lanes.withdraw(task)
                raise
        self._account(job_id, routed, task)
        if task.error is not None:
            raise task.error
        return task.outputs

    def _task(
        self, job_id: int, routed: RoutedStep, values: dict[str, Any], done: Callable[[Task], object], owner: Any = None
    ) -> Task:
        task = Task(routed.npu, [values[name] for name in routed.step.inputs], routed.wanted, done, owner)
        if self._pins is not None:
            task.core = core_of(job_id, self._pins)
        return task

    # -- from thread to thread

    def copies(self, route: Route, feed: Mapping[str, Any]) -> dict[str, Any]:
        """Copies of a job's feed; what only one NPU step reads in the memory order its lanes want."""
        places = self._places.get(id(route))  # a program keeps its routes
        if places is None:
            places = self._places[id(route)] = _sole_readers(route) if self._lanes is not None else {}
        values = {}
        for name, value in feed.items():
            place = places.get(name)
            values[name] = copy_of(value) if place is None else self._lanes.own(*place, value)  # type: ignore[union-attr]
        return values

    def ended(self, job: InferenceJob, failure: str) -> None:
        """Tell of a job that has ended."""
        if self._observer is not None:
            self._observer.inference(job.job_id, job._accepted_at, job._ended_at - job._accepted_at, failure)

    def proceed(self, job: InferenceJob) -> None:
        """Send a job to its next step, or end it."""
        steps = job._route.steps
        if job._position == len(steps):
            try:
                result = job._route.collect(job._values)
            except Exception as error:  # an output that nothing made: the job's error, not the worker's end
                self._end(job, error=error)
            else:
                self._end(job, result=result)
            return
        routed = steps[job._position]
        try:
            check_terminated(job._run_options)
        except Exception as error:
            self._end(job, error=error)
            return
        if routed.npu < 0:
            job._work = lambda: self._run_cpu(job)
            self._workers.push(job.job_id, job._work)
        else:
            assert self._lanes is not None
            job._task = task = self._task(job.job_id, routed, job._values, self._npu_done, job)
            # A fallback may need the inputs as long as there is another step that may find no core.
            task.spends = self._fallback is None or all(later.npu < 0 for later in steps[job._position + 1 :])
            self._lanes.push(task, front=job._position > 0)

    def _run_cpu(self, job: InferenceJob) -> None:
        """Run a job's CPU steps up to its next NPU step. On a CPU worker."""
        job._begun_at = job._begun_at or self._clock()
        steps = job._route.steps
        try:
            while job._position < len(steps) and steps[job._position].npu < 0:
                routed = steps[job._position]
                check_terminated(job._run_options)
                results = self._on_cpu(job.job_id, routed, job._values, job._run_options)
                job._values.update(zip(routed.given, results, strict=True))
                _pass(job, routed)
        except BaseException as error:  # whatever onnxruntime raises ends the job, not the worker
            self._end(job, error=error)
            return
        self.proceed(job)

    def _npu_done(self, task: Task) -> None:
        """A job's NPU step has ended. On the lane's thread, or on whoever found that no core is left."""
        job: InferenceJob = task.owner
        task.owner = None
        try:
            self._pass_on(job, task)
        except BaseException as error:  # no memory, an observer that raises: the job ends all the same
            self._end(job, error=error)

    def _pass_on(self, job: InferenceJob, task: Task) -> None:
        """Send a job on whose NPU step has ended, or end it."""
        job._begun_at = job._begun_at or task.taken_at
        job._device_s += task.seconds
        job.core = task.ran_on
        job._task = None
        routed = job._route.steps[job._position]
        self._account(job.job_id, routed, task)
        if task.error is None:
            job._values.update(zip(routed.given, task.outputs, strict=True))
            _pass(job, routed)
            self.proceed(job)
        elif isinstance(task.error, NoCoreLeft) and self._fallback is not None:
            job._begun_at = job._begun_at or self._clock()
            self._workers.push(job.job_id, lambda: self._fall_back(job))
        else:
            self._end(job, error=task.error)

    def _fall_back(self, job: InferenceJob) -> None:
        assert self._fallback is not None
        feed, places = {}, self._places.get(id(job._route), {})
        for name, (value, dtype) in job._feed.items():
            shown = self._lanes.shown(*places[name], value) if name in places and self._lanes is not None else value
            feed[name] = shown if dtype is None else shown.astype(dtype, copy=False)
        try:
            result = self._fallback(feed, job._route.outputs, job._run_options)
        except BaseException as error:
            self._end(job, error=error)
        else:
            self._end(job, result=result)

    def _account(self, job_id: int, routed: RoutedStep, task: Task) -> None:
        if task.error is not None:
            return
        if self._pacer is not None:
            self._pacer.sample(task.phases[1] if task.phases is not None else task.seconds)
        if self._observer is not None:
            self._observer.step(job_id, routed.step, task.taken_at, task.seconds, task.ran_on, task.phases)
        if self._print_perf:
            print_perf_line(job_id, task)


def _nobody_waits(_: Task) -> None:
    """The end of a task that its own thread executes."""


def _sole_readers(route: Route) -> dict[str, tuple[int, int]]:
    """NPU step and position of each value that nothing else reads."""
    readers: dict[str, list[tuple[int, int]]] = {name: [(-1, 0)] for name in route.outputs}
    for routed in route.steps:
        for position, name in enumerate(routed.step.inputs):
            readers.setdefault(name, []).append((routed.npu, position))
    return {name: places[0] for name, places in readers.items() if len(places) == 1 and places[0][0] >= 0}


def _pass(job: InferenceJob, routed: RoutedStep) -> None:
    """Leave a step behind, and forget the values that nobody needs any more."""
    job._position += 1
    for name in routed.forget:
        del job._values[name]
