"""The profile of a session with an NPU step: onnxruntime's own Chrome trace, with a track for each NPU core.

What the steps on the CPU did stands there node by node, as onnxruntime itself has written it.
``SessionOptions.enable_profiling`` asks for it, ``end_profiling()`` (or the session's end) writes it. chrome://tracing
and Perfetto open the file; so does whatever reads onnxruntime's: one event a line, the same keys and categories.
"""

from __future__ import annotations

import json
import math
import os
import time
import weakref
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from ort_rknn.devices.base import TensorSpec
from ort_rknn.devices.program import BoundCpuStep, BoundNpuStep
from ort_rknn.ort_conventions import CPU_PROVIDER, RKNN_PROVIDER
from ort_rknn_converters.util.log import logger

__all__ = ["MOST_EVENTS", "Profile", "add_to"]

MOST_EVENTS = 1_000_000
"""Events kept: onnxruntime's own limit."""

_TYPES = {"float32": "float", "float64": "double"}  # onnxruntime's names, where numpy has others


class _Event(NamedTuple):
    """Something that took time."""

    track: tuple[int, str]
    category: str
    name: str
    begun: float
    seconds: float
    args: dict[str, Any]


class Profile:
    """Collects what a session does, until :meth:`end` writes it. An :class:`ort_rknn.engine.observer.Observer`.

    Args:
        prefix: ``SessionOptions.profile_file_prefix``.
        npu: Whether a device other than onnxruntime runs the segments.
    """

    def __init__(self, prefix: str, *, npu: bool = True) -> None:
        self._prefix = Path.cwd() / prefix if prefix else Path.cwd() / "_"
        self._shown = prefix
        self._provider = RKNN_PROVIDER if npu else CPU_PROVIDER
        self._zero = time.perf_counter()
        self.start_time_ns = time.time_ns()
        self._events: list[_Event] | None = []
        self._indexes: dict[str, str] = {}
        self._natives: list[Any] = []
        self._folder: TemporaryDirectory[str] | None = None

    def end_with(self, owner: object) -> None:
        """Be written at the latest when ``owner`` dies, or the interpreter ends."""
        weakref.finalize(owner, self.end)

    def options_of_a_step(self, options: Any) -> None:
        """Have onnxruntime profile a session that runs a step on the CPU, into a file that is read at the end."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="ort_rknn-profile-")
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(self._folder.name) / f"step{len(self._natives)}")

    def add_step(self, native: Any) -> None:
        """Take over the events of a session made with :meth:`options_of_a_step`, one for each run of a node."""
        self._natives.append(native)

    # --- collecting ---------------------------------------------------------------------------------------------------

    def session_event(self, name: str, begun: float, ended: float | None = None) -> None:
        """Something of the session itself (``session_initialization`` ...) that began at ``begun`` is over."""
        seconds = (time.perf_counter() if ended is None else ended) - begun
        self._keep((0, "session"), "Session", name, begun, seconds, {})

    def step(
        self,
        job_id: int,
        step: BoundCpuStep | BoundNpuStep,
        begun: float,
        seconds: float,
        core: int | None = None,
        phases: tuple[float, float, float] | None = None,
    ) -> None:
        """Records a step, as :meth:`ort_rknn.engine.observer.Observer.step`."""
        if isinstance(step, BoundNpuStep):
            index = self._indexes.setdefault(step.name, str(len(self._indexes)))
            args: dict[str, Any] = {"op_name": step.name, "job": str(job_id), "node_index": index}
            args |= {"provider": self._provider, "core": str(core)} | _sizes(step)
            if phases is not None:
                names = ("set_input_us", "infer_us", "copy_output_us")
                args |= {name: str(round(1e6 * value)) for name, value in zip(names, phases, strict=True)}
            track = (1 + (core or 0), f"NPU core {core}") if core is not None and core >= 0 else (1, "NPU")
            self._keep(track, "Node", f"{step.name}_kernel_time", begun, seconds, args)
        else:  # its nodes have events of their own; as one of the kind "Node" it would be counted twice
            args = {"job": str(job_id), "provider": CPU_PROVIDER}
            self._keep((1000, f"CPU {step.name}"), "Session", step.name, begun, seconds, args)

    def inference(self, job_id: int, begun: float, seconds: float, error: str = "") -> None:
        """Records an inference, as :meth:`ort_rknn.engine.observer.Observer.inference`."""
        args = {"job": str(job_id)} | ({"error": error} if error else {})
        self._keep((1999, "executor"), "Session", "SequentialExecutor::Execute", begun, seconds, {})
        self._keep((2000, "inferences"), "Session", "model_run", begun, seconds, args)

    def _keep(self, *event: Any) -> None:
        events = self._events
        if events is not None and len(events) < MOST_EVENTS:
            events.append(_Event(*event))  # atomic: no lock is taken in the middle of the work

    def take(self) -> list[_Event]:
        """All events so far; no more are kept."""
        events, self._events = self._events, None
        if events is None:
            return []
        for native in self._natives:
            events += self._nodes_of(native)
        self._natives.clear()
        if self._folder is not None:
            self._folder.cleanup()
        return events[:MOST_EVENTS]

    def _nodes_of(self, native: Any) -> list[_Event]:
        """The events of the nodes that onnxruntime ran for a step."""
        try:
            begun = self._zero + (native.get_profiling_start_time_ns - self.start_time_ns) / 1e9
            entries = json.loads(Path(native.end_profiling()).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            logger().warning("what the CPU's nodes took is not in the profile: %s", error)
            return []
        return [
            _Event((1001, "CPU nodes"), "Node", one["name"], begun + one["ts"] / 1e6, one["dur"] / 1e6, one["args"])
            for one in entries
            if one["cat"] == "Node"
        ]

    # --- writing ------------------------------------------------------------------------------------------------------

    def end(self) -> str:
        """Write the file, the first time.

        Returns:
            Its name; ``""`` when it was written before. Like onnxruntime, a file that cannot be written is no error.
        """
        if self._events is None:
            return ""
        events = self.take()
        begun = datetime.fromtimestamp(self.start_time_ns / 1e9)
        stamp = f"_{begun:%Y-%m-%d_%H-%M-%S}_{begun.microsecond // 1000:03}.json"
        path = self._prefix.with_name(self._prefix.name + stamp) if self._shown else Path.cwd() / stamp
        try:
            with path.open("w", encoding="utf-8") as file:
                file.write("[\n")
                file.write(_lines(events, self._zero))
                file.write("\n]\n")
        except OSError as error:
            logger().warning("the profile cannot be written: %s", error)
        return self._shown + stamp


def add_to(path: Path, start_time_ns: int, profiles: Sequence[Profile]) -> None:
    """Add what several engines did to a profile that onnxruntime wrote.

    Args:
        path: The file; that it cannot be changed is no error.
        start_time_ns: The file's time 0, in nanoseconds of the wall clock.
        profiles: Of the engines; they take no more events.
    """
    events = [event for profile in profiles for event in profile.take()]
    first = profiles[0]
    lines = _lines(events, first._zero - (first.start_time_ns - start_time_ns) / 1e9)
    if not lines:
        return
    try:
        body = path.read_text(encoding="utf-8").rstrip().removesuffix("]").rstrip()
        path.write_text(f"{body},\n{lines}\n]\n" if len(body) > 1 else f"[\n{lines}\n]\n", encoding="utf-8")
    except OSError as error:
        logger().warning("the profile cannot be written: %s", error)


def _lines(events: Sequence[_Event], zero: float) -> str:
    return ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in _entries(events, zero))


def _entries(events: Sequence[_Event], zero: float) -> Iterable[dict[str, Any]]:
    """The lines of the file: names of the tracks, then the events as they began.

    Things on one track that overlap (two contexts on a core, two CPU workers) would be drawn as one inside the
    other; they get tracks of their own.
    """
    pid = os.getpid()
    ordered = sorted(events, key=lambda event: event.begun)
    ends: dict[tuple[int, str], list[float]] = {}
    placed = []
    for event in ordered:
        rows = ends.setdefault(event.track, [])
        row = next((row for row, end in enumerate(rows) if end <= event.begun), len(rows))
        rows[row : row + 1] = [event.begun + event.seconds]
        placed.append((event, (*event.track, row)))
    tids = {track: number for number, track in enumerate(sorted({track for _, track in placed}), 1)}
    for (_, name, row), tid in tids.items():
        shown = f"{name} ({row + 1})" if row else name
        for kind, args in (("thread_name", {"name": shown}), ("thread_sort_index", {"sort_index": tid})):
            yield _entry("__metadata", pid, tid, 0, 0, "M", kind, args)
    for event, track in placed:
        since = math.floor(1e6 * (event.begun - zero))
        took = math.floor(1e6 * event.seconds)
        yield _entry(event.category, pid, tids[track], took, max(0, since), "X", event.name, event.args)


def _entry(category: str, pid: int, tid: int, dur: int, ts: int, ph: str, name: str, args: Any) -> dict[str, Any]:
    return {"cat": category, "pid": pid, "tid": tid, "dur": dur, "ts": ts, "ph": ph, "name": name, "args": args}


def _sizes(step: BoundNpuStep) -> dict[str, Any]:
    """Types, shapes and bytes of a segment's inputs and outputs, under onnxruntime's names."""
    inputs, outputs = step.code.inputs, step.code.outputs
    return {
        "input_type_shape": [{_type(spec): list(spec.shape)} for spec in inputs],
        "output_type_shape": [{_type(spec): list(spec.shape)} for spec in outputs],
        "activation_size": str(_bytes(inputs)),
        "parameter_size": "0",  # weights are inside, as in every provider's compiled nodes
        "output_size": str(_bytes(outputs)),
    }


def _type(spec: TensorSpec) -> str:
    return _TYPES.get(spec.dtype.name, spec.dtype.name)


def _bytes(specs: Sequence[TensorSpec]) -> int:
    return sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in specs)
