"""Settings of an engine: limits, schedule and delivery, as one frozen value."""

from __future__ import annotations

from typing import Literal, get_args

from ort_rknn.engine.cpu_workers import CPU_WORKERS
from ort_rknn.engine.lanes.schedule import parse_schedule, parse_tp_mode
from ort_rknn.engine.sharing.board import Priority, Scope
from ort_rknn.errors import InvalidOption
from ort_rknn_converters.util.frozen import frozen

__all__ = ["EngineOptions", "Hint", "Overflow"]

Overflow = Literal["block", "raise", "drop_oldest"]
Hint = Literal["none", "latency", "throughput"]


@frozen
class EngineOptions:
    """Options of :class:`ort_rknn.engine.engine.Engine`. Names and defaults are EZ RKNN Async's unless said otherwise.

    Attributes:
        schedule: Core of each job in turn, ``job_id % len(schedule)``: an int, ``"0,1,2"`` or a sequence; doubles raise
            a core's share. Default: none, whatever core is free takes the next job.
        tp_mode: All contexts share this core mask: ``auto``, ``all``, ``0``, ``1``, ``2``, ``0,1`` or ``0,1,2``.
        threads_per_core: Contexts per distinct core; with ``tp_mode`` the number of contexts. Default: what keeps the
            cores busy, see :func:`ort_rknn.engine.lanes.schedule.plan_lanes` (EZ RKNN Async's is 1).
        max_queue_size: Jobs that may wait for a core; those being executed do not count.
        max_callback_queue_size: Finished jobs that may wait for their callback to start (fixed at 8 in EZ RKNN Async).
        submit_timeout_ms: How long a submission waits for room; 0 refuses at once.
        sequential_callbacks: Deliver callbacks in the order of submission.
        enable_pacing: Space submissions by the mean inference time over the number of cores.
        disable_dup_context: Load the weights once per context instead of sharing them.
        overflow: What a submission does when the queue is full (ours; EZ RKNN Async blocks): ``block``, ``raise`` at
            once, or ``drop_oldest``: cancel the oldest job that still waits.
        run_timeout_ms: How long one inference may take; 0 is for ever. Default 0: inference times differ by a factor
            of 1000, and a limit takes the short way of ``run`` away (the caller could not be freed).
        performance_hint: ``latency``: one context, the driver chooses the core; ``throughput``: all cores with at
            least two contexts each, so that one transfers while the other computes. Excludes ``schedule`` and
            ``tp_mode``.
        print_perf: One line on stderr for each inference; ``None`` asks ``ORT_RKNN_PRINT_PERF`` and
            ``ZTU_EZRKNN_ASYNC_PRINT_PERF`` when the engine is made.
        idle_unload_s: Seconds without an inference after which the NPU's memory is given back; the next one opens the
            contexts again, which takes as long as opening the session's code did. 0 keeps them.
        cores: Cores to use; ``None`` is all the device has.
        cpu_workers: Threads that run the CPU steps of submitted jobs.
        priority: Class among all sessions of the process: ``high``, ``normal`` (also ``medium``) or ``low``.
        reserve: Cores that are kept free for class ``high`` while this session is open.
        arbiter: Whose sessions take turns: ``process``, those of this process, or ``machine``, those of all programs in
            one IPC namespace that say so.
    """

    schedule: tuple[int, ...] | None = None
    tp_mode: str | None = None
    threads_per_core: int | None = None
    max_queue_size: int = 3
    max_callback_queue_size: int = 8
    submit_timeout_ms: float = 10_000
    sequential_callbacks: bool = True
    enable_pacing: bool = False
    disable_dup_context: bool = False
    overflow: Overflow = "block"
    run_timeout_ms: float = 0
    performance_hint: Hint = "none"
    print_perf: bool | None = None
    idle_unload_s: float = 0.0
    cores: int | None = None
    cpu_workers: int = CPU_WORKERS
    priority: Priority = "normal"
    reserve: int = 0
    arbiter: Scope = "process"

    def __post_init__(self) -> None:
        if self.schedule is not None:
            object.__setattr__(self, "schedule", parse_schedule(self.schedule))
        if self.tp_mode is not None:
            object.__setattr__(self, "tp_mode", parse_tp_mode(self.tp_mode))
        if self.schedule is not None and self.tp_mode is not None:
            raise InvalidOption("schedule and tp_mode exclude each other: give one of them")

        words = {"overflow": Overflow, "performance_hint": Hint, "priority": Priority, "arbiter": Scope}
        for name, allowed in ((name, get_args(kind)) for name, kind in words.items()):
            if getattr(self, name) not in allowed:
                raise InvalidOption(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if self.performance_hint != "none" and (self.schedule is not None or self.tp_mode is not None):
            raise InvalidOption("performance_hint chooses the cores itself: give it without schedule and tp_mode")

        for name in ("threads_per_core", "max_queue_size", "max_callback_queue_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidOption(f"{name} must be at least 1, not {value!r}")
        if self.cores is not None and self.cores < 1:
            raise InvalidOption(f"cores must be at least 1, not {self.cores!r}")
        for name in ("submit_timeout_ms", "run_timeout_ms", "idle_unload_s", "reserve"):
            if getattr(self, name) < 0:
                raise InvalidOption(f"{name} must not be negative, not {getattr(self, name)!r}")
