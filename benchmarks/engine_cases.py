"""What is measured for the engine's figures: each case on a session and, for the floor, by bare C calls."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from engine_rig import CORES, TARGET, BareSegment, Rig, Taken, Work, burner, hogs, in_turns, quiet, stream, taking

import ort_rknn
from tests.helpers.plugin import emulated_sample

Values = dict[str, float]

SMALL = Work((1, 3072), ((1, 1000),))
"""12 KB in."""

PICTURE = Work((1, 3, 224, 224), ((1, 1000),))
"""600 KB in, to be turned into NHWC."""

_HEADS = tuple((1, channels, size, size) for size in (80, 40, 20) for channels in (64, 80))
DETECTOR = Work((1, 3, 640, 640), _HEADS, "uint8")
"""A picture of bytes, and the six heads of a detector: 4.8 MB out."""

FLOATS = Work((1, 3, 640, 640), ((1, 84, 8400),))
"""4.9 MB in, 2.8 MB out."""


class Case(Protocol):
    """One thing to measure."""

    @property
    def name(self) -> str:
        """Its key in the results."""

    def ours(self, rig: Rig, seconds: float) -> Values:
        """On a session."""

    def floor(self, rig: Rig, seconds: float) -> Values:
        """By bare calls."""


@dataclass(frozen=True)
class Blocking:
    """``run()`` on an idle device that takes no time: ``us``."""

    name: str
    work: Work

    def both(self, rig: Rig, seconds: float) -> tuple[Values, Values]:
        """Four calls with everything built before, and the session, in turns."""
        session, feed, bare = rig.session(self.work), self.work.feed(), rig.bare(self.work)
        floor, ours = in_turns(lambda: bare.infer(0), lambda: session.run(None, feed), int(200 * seconds))
        session.close()
        bare.close()
        return {"us": floor}, {"us": ours}

    def ours(self, rig: Rig, seconds: float) -> Values:
        """The session's."""
        return self.both(rig, seconds)[1]

    def floor(self, rig: Rig, seconds: float) -> Values:
        """That of bare calls."""
        return self.both(rig, seconds)[0]


@dataclass(frozen=True)
class Mixed:
    """``run()`` of two NPU segments and four nodes on the CPU, beside its parts one by one: ``us``."""

    name: str

    def both(self, rig: Rig, seconds: float) -> tuple[Values, Values]:
        """Bare calls of each segment and onnxruntime's own ``run`` of each part on the CPU; and the session."""
        model = emulated_sample()
        session = rig.session(model.to_bytes())
        feed = {"x": np.zeros((1, 3, 8, 8), np.float32), "flag": np.array([True])}
        parts: list[Callable[[], Any]] = []
        bares = []
        values: dict[str, Any] = dict(feed)
        for step in model.steps:
            if step.kind == "npu":
                values |= {one.name: np.zeros(one.shape, np.float32) for one in step.outputs}
                bare = BareSegment(
                    rig.emulator.path,
                    step.code[TARGET].read(),
                    [values[one.name] for one in step.inputs],
                    [one.shape for one in step.outputs],
                )
                bares.append(bare)
                parts.append(bare.infer)
            else:
                part = onnxruntime.InferenceSession(step.model.read(), providers=["CPUExecutionProvider"])
                given = {name: values[name] for name in step.inputs}
                names = list(step.outputs)
                values |= dict(zip(names, part.run(names, given), strict=True))
                parts.append(lambda part=part, names=names, given=given: part.run(names, given))

        def floor() -> None:
            for part in parts:
                part()

        least, ours = in_turns(floor, lambda: session.run(None, feed), int(200 * seconds))
        session.close()
        for bare in bares:
            bare.close()
        return {"us": least}, {"us": ours}

    def ours(self, rig: Rig, seconds: float) -> Values:
        """The session's."""
        return self.both(rig, seconds)[1]

    def floor(self, rig: Rig, seconds: float) -> Values:
        """The sum of the parts."""
        return self.both(rig, seconds)[0]


@dataclass(frozen=True)
class Stream:
    """Many jobs on all cores: ``share`` of what the latency allows, and per inference ``cpu_ms`` and ``switches``."""

    name: str
    latency_ms: float
    work: Work = SMALL
    options: dict[str, Any] = field(default_factory=dict)
    beside: Callable[[], AbstractContextManager[None]] = quiet
    pattern: str = ""
    compares: bool = False

    def _measured(self, rig: Rig, seconds: float, some: Callable[[int], None]) -> Values:
        rig.emulator.configure(latency_us=int(1000 * self.latency_ms))
        some(4 * CORES)
        if self.pattern:
            rig.emulator.configure(pattern=self.pattern)
        jobs = int(seconds * 1000 / self.latency_ms) * CORES // 30 * 30
        taken: list[Taken] = []
        with self.beside(), taking(taken):
            some(jobs)
        rig.emulator.configure(latency_us=0)
        (one,) = taken
        ideal = jobs * self.latency_ms / 1000 / CORES
        return {"share": ideal / one.wall, "cpu_ms": 1000 * one.cpu / jobs, "switches": one.switches / jobs}

    def ours(self, rig: Rig, seconds: float) -> Values:
        """By ``run_async``, from one thread."""
        session, feed = rig.session(self.work, **self.options), self.work.feed()
        expected = session.run(None, feed)[0].copy() if self.compares else None
        values = self._measured(rig, seconds, lambda jobs: stream(session, feed, jobs, expected=expected))
        session.close()
        return values

    def floor(self, rig: Rig, seconds: float) -> Values:
        """By one thread for each core."""
        bare = rig.bare(self.work)
        values = self._measured(rig, seconds, bare.stream)
        bare.close()
        return values


@dataclass(frozen=True)
class Stall:
    """One core does nothing for a while: ``share`` of what the two others can do meanwhile."""

    name: str
    latency_ms: float = 5.0
    stalled_s: float = 1.5

    def _measured(self, rig: Rig, some: Callable[[int, Callable[[], None]], None]) -> Values:
        rig.emulator.configure(latency_us=int(1000 * self.latency_ms))
        some(4 * CORES, lambda: None)
        ideal = (CORES - 1) * self.stalled_s * 1000 / self.latency_ms
        ends: list[float] = []
        rig.emulator.configure(stall=f"1:{int(self.stalled_s * 1e6)}")
        begun = time.perf_counter()
        some(int(ideal * 1.5) // CORES * CORES, lambda: ends.append(time.perf_counter()))
        rig.emulator.configure(latency_us=0)
        over = begun + self.stalled_s + self.latency_ms / 2000  # the last of them end just then
        return {"share": sum(end <= over for end in ends) / ideal}

    def ours(self, rig: Rig, seconds: float) -> Values:
        """Callbacks as they come."""
        session, feed = rig.session(SMALL, sequential_callbacks=False), SMALL.feed()
        values = self._measured(rig, lambda jobs, done: stream(session, feed, jobs, done))
        session.close()
        return values

    def floor(self, rig: Rig, seconds: float) -> Values:
        """Each thread keeps to its core."""
        bare = rig.bare(SMALL)
        values = self._measured(rig, bare.stream)
        bare.close()
        return values


@dataclass(frozen=True)
class ZeroCopy:
    """Four threads, each with a binding whose values are in NPU memory: ``share``."""

    name: str
    latency_ms: float = 10.0
    threads: int = 4

    def ours(self, rig: Rig, seconds: float) -> Values:
        """``session.run_with_iobinding``."""
        session = rig.session(SMALL)
        bindings = []
        for _ in range(self.threads):
            binding = session.io_binding()
            for name, array in SMALL.feed().items():
                binding.bind_ortvalue_input(name, ort_rknn.OrtValue.ortvalue_from_numpy(array, "npu"))
            for output in session.get_outputs():
                binding.bind_output(output.name, "npu")
            session.run_with_iobinding(binding)
            bindings.append(binding)
        rig.emulator.configure(latency_us=int(1000 * self.latency_ms))
        each = int(seconds * 1000 / self.latency_ms) * CORES // self.threads

        def work(binding: Any) -> None:
            for _ in range(each):
                session.run_with_iobinding(binding)

        threads = [threading.Thread(target=work, args=(binding,)) for binding in bindings]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall = time.perf_counter() - begun
        rig.emulator.configure(latency_us=0)
        copied = session.stats().copied
        session.close()
        if copied:
            raise RuntimeError(f"this is no zero copy: {copied}")
        return {"share": each * self.threads * self.latency_ms / 1000 / CORES / wall}

    def floor(self, rig: Rig, seconds: float) -> Values:
        """There is none: copying calls are measured elsewhere."""
        return {"share": float(np.nan)}


@dataclass(frozen=True)
class Memory:
    """A model of 100 MB opened by its path, 3 cores at work: ``kept`` and ``peak``, MB."""

    name: str

    def ours(self, rig: Rig, seconds: float) -> Values:
        """In a process of its own."""
        return self._measured(rig, "session")

    def floor(self, rig: Rig, seconds: float) -> Values:
        """In a process of its own, by bare calls."""
        return self._measured(rig, "bare")

    def _measured(self, rig: Rig, how: str) -> Values:
        script = Path(__file__).with_name("engine_memory.py")
        done = subprocess.run(
            [sys.executable, str(script), how], capture_output=True, text=True, check=True, timeout=120
        )
        values: Values = json.loads(done.stdout.splitlines()[-1])
        return values


_DEEP = {"max_queue_size": 64, "max_callback_queue_size": 64}
SCHEDULE = {"schedule": [0, 1, 2]}

CASES: tuple[Case, ...] = (
    Blocking("blocking 12 KB", SMALL),
    Blocking("blocking 600 KB", PICTURE),
    Mixed("mixed"),
    *(Stream(f"quiet {ms:g} ms", ms) for ms in (0.5, 1.0, 5.0)),
    *(Stream(f"quiet {ms:g} ms, schedule", ms, options=SCHEDULE) for ms in (0.5, 1.0, 5.0)),
    Stream("burner 5 ms", 5.0, beside=burner),
    Stream("burner 1 ms, limits 64", 1.0, options=_DEEP, beside=burner),
    Stream("burner 1 ms, limits 64, compared", 1.0, options=_DEEP, beside=burner, compares=True),
    Stream("hogs 0.5 ms", 0.5, beside=hogs),
    Stream("hogs 1 ms", 1.0, beside=hogs),
    Stream("uneven", 7.0, pattern="5000*9,25000"),
    Stall("stall"),
    Stream("detector 5 ms", 5.0, DETECTOR),
    Stream("floats 5 ms", 5.0, FLOATS),
    ZeroCopy("zero copy"),
    Memory("memory"),
)
"""In the order of the table."""
