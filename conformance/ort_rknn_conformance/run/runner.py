"""Many cases in worker processes: each has a time limit, and a crash or a hang is a result, not the end.

A worker is a process of its own session (so that the compiler it may have started ends with it), takes one case at a
time over a pipe and sends its result back. The parent is one thread that waits for whichever speaks first.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ort_rknn_conformance.case import Case, Settings
from ort_rknn_conformance.flows import Flow, find_flow
from ort_rknn_conformance.result import CaseResult
from ort_rknn_conformance.run.run_case import execute
from ort_rknn_converters.toolkit.worker.parent_death import end_with_parent

__all__ = ["run_cases"]

RENEW_AFTER = 200  # cases a worker runs before a fresh one takes its place: sessions leave memory behind (a guess)
START_S = 60.0  # more for a worker's first case, which also pays for its start and its imports (a guess, 2 s is seen)
Execute = Callable[[Case, Flow, Settings], CaseResult]


def run_cases(
    cases: Iterable[Case],
    flow: Flow,
    settings: Settings,
    *,
    jobs: int = 1,
    time_limit: float = 120.0,
    run: Execute = execute,
) -> Iterator[CaseResult]:
    """Run the cases and yield each result as it comes, in no particular order.

    Args:
        cases: The cases; taken one by one, as workers become free.
        flow: One of the known flows.
        settings: The same for all cases.
        jobs: Worker processes.
        time_limit: Seconds a case may take; its worker is then ended.
        run: What a worker does with a case (a module-level function).
    """
    queue = _Queue(cases, flow, settings)
    workers: dict[Connection, _Worker] = {}
    try:
        while True:
            while len(workers) < jobs and (case := queue.take()) is not None:
                worker = _Worker(flow.name, settings, run)
                worker.give(case, time_limit)
                workers[worker.pipe] = worker
            yield from queue.take_decided()
            if not workers:
                return
            nearest = min(worker.deadline for worker in workers.values())
            ready = wait(list(workers), timeout=max(0.0, nearest - time.monotonic()))
            now = time.monotonic()
            for pipe in [pipe for pipe, worker in workers.items() if pipe in ready or worker.deadline <= now]:
                worker = workers[pipe]
                result = worker.answer() if pipe in ready else worker.timed_out(time_limit)
                yield _judged(result, flow, settings)
                following = queue.take() if worker.usable else None
                if following is None:
                    workers.pop(pipe).end()
                else:
                    worker.give(following, time_limit)
    finally:
        for worker in workers.values():
            worker.end()


class _Queue:
    """The cases that are to run; those the flow skips are decided on the way."""

    def __init__(self, cases: Iterable[Case], flow: Flow, settings: Settings) -> None:
        self._cases = iter(cases)
        self._flow = flow
        self._settings = settings
        self._decided: list[CaseResult] = []

    def take(self) -> Case | None:
        for case in self._cases:
            mark = self._flow.mark(case.name, self._settings.target, self._settings.precision)
            if mark is None or mark[0] != "skip":
                return case
            self._decided.append(CaseResult(case.name, "skipped", mark[1]))
        return None

    def take_decided(self) -> list[CaseResult]:
        decided, self._decided = self._decided, []
        return decided


def _judged(result: CaseResult, flow: Flow, settings: Settings) -> CaseResult:
    """The result in the light of the flow's strict xfails."""
    mark = flow.mark(result.case, settings.target, settings.precision)
    if mark is None or mark[0] != "xfail" or result.verdict == "unsupported":
        return result
    data = result.to_dict()
    if result.verdict == "right":
        return CaseResult.from_dict({**data, "verdict": "xpassed", "message": f"passes, but is marked: {mark[1]}"})
    return CaseResult.from_dict({**data, "verdict": "xfailed", "message": f"{mark[1]} ({result.message})"})


class _Worker:
    """One worker process and the case it has in hand."""

    def __init__(self, flow: str, settings: Settings, run: Execute) -> None:
        context = multiprocessing.get_context("spawn")  # fork would copy onnxruntime's threads half-way
        self.pipe, far_end = context.Pipe()
        self._log = tempfile.NamedTemporaryFile(prefix="ort-rknn-case-", suffix=".log")  # noqa: SIM115 (ended in end)
        self._process = context.Process(
            target=_work,
            args=(far_end, flow, settings, run, self._log.name, os.getpid()),
            daemon=False,
            name="ort-rknn-case",
        )
        self._process.start()
        far_end.close()
        self._done = 0
        self._case = ""
        self._since = 0.0
        self.deadline = 0.0
        self.usable = True

    def give(self, case: Case, time_limit: float) -> None:
        self._case = case.name
        self._since = time.monotonic()
        self.deadline = self._since + time_limit + (START_S if self._done == 0 else 0.0)
        try:
            self.pipe.send(case)
        except OSError:
            self.deadline = self._since  # it died between two cases: the next look at the pipe says how

    def answer(self) -> CaseResult:
        """The answer on the pipe, or the crash that closed it."""
        try:
            # no limit: the answer has begun to come, and is sent as a whole; a worker that dies ends the pipe
            answer: dict[str, Any] = self.pipe.recv()
        except (EOFError, OSError):
            self.usable = False
            self._process.join(timeout=10)
            return CaseResult(self._case, "crashed", self._how_it_ended(), seconds=time.monotonic() - self._since)
        self._done += 1
        self.usable = self._done < RENEW_AFTER
        return CaseResult.from_dict(answer)

    def timed_out(self, time_limit: float) -> CaseResult:
        self.usable = False
        message = f"no answer within {time_limit:g} s"
        return CaseResult(self._case, "timeout", message, seconds=time.monotonic() - self._since)

    def end(self) -> None:
        """End the process and whatever it started."""
        if self._process.is_alive() and self._process.pid is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._process.kill()  # it has not reached its own process group yet
        self._process.join(timeout=10)
        if not self._process.is_alive():  # inside the NPU's driver not even SIGKILL ends it
            self._process.close()
        self.pipe.close()
        self._log.close()

    def _how_it_ended(self) -> str:
        code = self._process.exitcode
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = signal.Signals(-code).name
        lines = Path(self._log.name).read_text(errors="replace").strip().splitlines()
        return f"{how}: {lines[-1]}" if lines else how


def _work(pipe: Connection, flow: str, settings: Settings, run: Execute, log: str, parent: int) -> None:
    """A worker's life: cases in, results out, until the pipe closes."""
    os.setsid()
    end_with_parent(parent)  # in the middle of a case nobody would read the pipe's end
    with open(log, "ab", buffering=0) as file:  # noqa: PTH123 (a descriptor is all that is wanted)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    chosen = find_flow(flow)
    while True:
        try:
            case = pipe.recv()  # no limit: the parent's end ends this process, too
        except (EOFError, OSError):
            return
        pipe.send(run(case, chosen, settings).to_dict())
