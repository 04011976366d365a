"""Statistics of an engine, and EZ RKNN Async's line per inference."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from ort_rknn.ort_conventions import TRUE_WORDS
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    from ort_rknn.engine.lanes.base import LaneStats, Task

__all__ = ["Counters", "EngineStats", "print_perf_line", "print_phases", "wants_perf_lines"]

PERF_VARIABLES = ("ORT_RKNN_PRINT_PERF", "ZTU_EZRKNN_ASYNC_PRINT_PERF")


class Counters:
    """Counted under the engine's lock."""

    def __init__(self) -> None:
        self.accepted = self.completed = self.failed = self.cancelled = self.dropped = 0
        self.runs = self.most_waiting = 0


@frozen
class EngineStats:
    """A snapshot of an engine.

    Attributes:
        accepted: Jobs accepted by ``submit``.
        completed: Of these, how many gave a result.
        failed: How many ended with an error.
        cancelled: How many were cancelled, dropped ones included.
        dropped: How many were cancelled to make room (``overflow="drop_oldest"``).
        runs: Calls of ``run``, not counted above.
        waiting: Jobs that wait for a core or a CPU worker now.
        undelivered: Finished jobs that wait for their callback to start.
        most_waiting: The most jobs that ever waited after a submission.
        mean_inference_s: The pacer's mean of the inference time; ``None`` without pacing.
        lanes: What each lane did.
        notes: Sentences on cores that were taken out of service.
        npu_bytes: NPU memory of the contexts that are open now, as the runtime counts it; weights that another session
            has loaded are not counted.
        open_contexts: Lanes whose contexts are open now.
        given_back: How many lanes' contexts were closed so far to give memory back.
        bound_runs: Runs over a binding that the NPU did on the binding's own memory, not counted above.
        behind: Jobs beyond the queue's limit that wait for a core of the schedule that is behind.
        copied: Input or output to the reason why it was copied in the last run over a binding with NPU memory.
    """

    accepted: int
    completed: int
    failed: int
    cancelled: int
    dropped: int
    runs: int
    waiting: int
    undelivered: int
    most_waiting: int
    mean_inference_s: float | None
    lanes: tuple[LaneStats, ...]
    notes: tuple[str, ...]
    npu_bytes: int = 0
    open_contexts: int = 0
    given_back: int = 0
    bound_runs: int = 0
    behind: int = 0
    copied: Mapping[str, str] = field(default_factory=dict)


def wants_perf_lines() -> bool:
    """Whether the environment asks for a line per inference: 1, true, on or yes in any case."""
    return any(os.environ.get(name, "").strip().lower() in TRUE_WORDS for name in PERF_VARIABLES)


def print_perf_line(job_id: int, task: Task) -> None:
    """Print EZ RKNN Async's line for one inference to stderr; time that a device does not split counts as inference."""
    print_phases(job_id, task.lane, task.ran_on, task.phases or (0.0, task.seconds, 0.0))


def print_phases(job_id: int, lane: int, core: int | None, phases: tuple[float, float, float], more: str = "") -> None:
    """Print EZ RKNN Async's line for the seconds one inference took to set inputs, to infer and to fetch outputs."""
    set_input, infer, copy_output = (round(seconds * 1e6) for seconds in phases)
    line = (
        f"[ort_rknn_perf] task_id={job_id} thread_id={lane} core_id={core} set_input_us={set_input} "
        f"infer_us={infer} copy_output_us={copy_output} total_us={set_input + infer + copy_output}{more}"
    )
    print(line, file=sys.stderr, flush=True)
