"""Decides what a session does with bindings that have NPU memory: runs on it where it can, else says why it copies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ort_rknn.accounting.idle_unload import IDLE
from ort_rknn.devices.base import core_mask
from ort_rknn.devices.program import BoundNpuStep, Program, check_terminated
from ort_rknn.engine.stats import print_phases, wants_perf_lines
from ort_rknn.sessions.value_calls import deliver
from ort_rknn.sessions.zero_copy import OnRun, SharedRuns, Unshareable

if TYPE_CHECKING:
    from ort_rknn.engine.engine import Engine
    from ort_rknn.engine.observer import Observer
    from ort_rknn.ort_types.iobinding import SessionIOBinding

__all__ = ["MemoryUse"]


class MemoryUse:
    """Use of bindings with NPU memory by a session.

    Args:
        shared: Runs on it; ``None`` where everything is copied.
        why: Why everything is copied.
        on_run: Called after a good run.
        count: Called with the seconds a good run took.

    Attributes:
        runs: Runs on the memory itself.
        copied: Input or output name to the reason why it was copied in the last run over a binding.
    """

    def __init__(
        self,
        shared: SharedRuns | None,
        why: str,
        on_run: OnRun | None = None,
        count: Callable[[float], object] = float,
    ) -> None:
        self._count = count
        self.runs = 0
        self.copied: dict[str, str] = {}
        self._shared = shared
        self._why = why
        self._on_run = on_run
        self._counting = threading.Lock()

    @classmethod
    def of(cls, engine: Engine, at_close: list[Callable[[], object]], profile: Observer | None) -> MemoryUse:
        """That of the session of an engine.

        Args:
            engine: The engine.
            at_close: Is given what to close then.
            profile: Watches the session, if anything does.
        """
        why = _why_copied(engine.program, engine.options.run_timeout_ms)
        if why:
            return cls(None, why)
        shared = SharedRuns(engine.program, *_cores(engine), engine.gates)
        at_close.append(shared.close)
        if engine.options.idle_unload_s:
            IDLE.watch(shared, engine.options.idle_unload_s)
        lines = wants_perf_lines() if engine.options.print_perf is None else engine.options.print_perf
        if profile is None and not lines:
            return cls(shared, "", count=engine.count_run)
        step = engine.program.steps[0]

        def on_run(core: int, begun: float, phases: tuple[float, float, float]) -> None:
            if lines:
                print_phases(-1, -1, core, phases, " mode=zero_copy")
            if profile is not None:
                profile.step(-1, step, begun, sum(phases), core, phases)
                profile.inference(-1, begun, sum(phases))

        return cls(shared, "", on_run, engine.count_run)

    def memory(self) -> tuple[int, int]:
        """Bytes of NPU memory of its contexts, and how many are open."""
        return (0, 0) if self._shared is None else self._shared.memory()

    def run(self, binding: SessionIOBinding, run_options: Any) -> bool:
        """Run on the binding's memory; ``False`` when that is not possible.

        Raises:
            DeviceError: The inference failed.
            SessionClosed: The session was closed.
        """
        record = binding.rknn_record
        shared = self._shared
        # What is no input of the NPU's step may be a weight that is compiled in.
        if shared is not None and record.inputs.keys() == shared.input_dtypes.keys():
            check_terminated(run_options)
            inputs = record.feed(shared.input_dtypes)
            outputs = {name: record.npu_value(name) for name in record.outputs}
            if shared.covers(inputs, outputs):
                for name, value in outputs.items():
                    if value is None and record.goes_to_npu(name):
                        outputs[name] = made = shared.fresh(name)
                        record.made(name, made)
                copied: dict[str, str] = {}
                begun = time.perf_counter()
                try:
                    deliver(binding, shared.run(id(binding), inputs, outputs, copied, self._on_run))
                except Unshareable as error:
                    self._shared, self._why = None, str(error)
                else:
                    self._count(time.perf_counter() - begun)
                    with self._counting:
                        self.runs += 1
                    self.copied = copied
                    return True
        why = self._why or "the NPU has no code for these inputs, shapes and outputs"
        self.copied = dict.fromkeys((*record.inputs, *record.outputs), why)
        return False


def _why_copied(program: Program, run_timeout_ms: float) -> str:
    """Reason why no run of a session can be on shared memory; ``""`` when they can."""
    if len(program.steps) != 1 or not isinstance(program.steps[0], BoundNpuStep):
        return "the model is not one NPU part from its inputs to its outputs; print(session.plan) shows what it is"
    name = getattr(program.device, "name", None)
    if name != "npu":
        return f"only device 'npu' shares memory; this session's is {name!r}"
    if run_timeout_ms:
        return "run_timeout_ms is set, and only inferences of the engine's own can be timed out"
    return ""


def _cores(engine: Engine) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Core mask, and how many contexts share it; the same for more threads than cores.

    Where the driver chooses, threads that are no more than the cores leave it to it: it knows the queues of other
    programs. It puts one thread more behind the first core whoever is there, so that two threads get half of what the
    others get (measured with four threads on three cores: 88 % of what these can do, by the time the last thread is
    through). With so many threads all cores are busy by this program alone, and each run goes where the queue ends
    first.

    There are two contexts for each core, so that it has work while Python hands over (measured with four threads and a
    busy PC: 99 % of what three cores can do, with one context each 88 %).
    """
    lanes = engine.plan().lanes
    if engine.options.tp_mode is not None:
        return [(lanes[0].mask, len(lanes))], []
    if lanes[0].floats:
        cores = dict.fromkeys(lane.core for lane in lanes)
        return [(lanes[0].mask, len(cores))], [(core_mask([core]), 2) for core in cores]
    return [(mask, 2) for mask in dict.fromkeys(lane.mask for lane in lanes)], []
