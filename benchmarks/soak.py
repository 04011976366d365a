"""A soak: 8 threads submit to both kinds of lanes while devices fail and hang and engines close and open again.

Checked all the time: every job ends exactly once, with the right numbers, its callback told once and in order; at the
end: no thread, context or memory is left. `make soak` runs it for ten minutes.

    python benchmarks/soak.py [--seconds 600] [--threads 8] [--seed 0]
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import os
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ort_rknn.devices.base import SegmentCode
from ort_rknn.devices.fake import FakeDevice
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.job import InferenceJob
from ort_rknn.engine.options import EngineOptions
from ort_rknn.engine.thread_lanes import ThreadLanes
from ort_rknn.errors import DeviceError, DeviceUnavailable, SessionClosed, SubmitTimeout
from ort_rknn.program import NpuPart, Program
from tests.helpers.emulator import Emulator, Model, Tensor, private_copy
from tests.helpers.engines import program as fake_program
from tests.helpers.npu import build_native, npu, segment

FEEDS = 32
CORES = 3
FAULTS = 0.01
HANGS = 0.0005
CANCELS = 0.03
LIMIT_MS = 50  # of an inference, in the rounds with hangs
ROUND_S = 1.2  # about as many inferences as the emulator's table of faults reaches
PATIENCE_S = 30.0  # for what must end by itself
MODEL = Model((Tensor("x", "float16", (1, 4)),), (Tensor("y", "float16", (1, 4)),))


class Slot:
    """What became of one job; ``job_id`` is filled in when its submission has returned."""

    __slots__ = ("ended", "job_id", "told", "wants_callback")

    def __init__(self, wants_callback: bool) -> None:
        self.job_id = -1
        self.ended = 0
        self.told = 0
        self.wants_callback = wants_callback


@dataclass
class Ledger:
    """What happened, and what must not happen."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, number: int = 1) -> None:
        with self.lock:
            self.counts[name] += number

    def wrong(self, what: str, number: int = 1) -> None:
        if number:
            with self.lock:
                self.violations[what] += number


class Arena:
    """One engine, from its opening to the judgement of all its jobs."""

    name = ""

    def __init__(self, engine: Engine, expected: Sequence[Any], ledger: Ledger) -> None:
        self.engine = engine
        self.expected = expected
        self.ledger = ledger
        self.slots: list[Slot] = []
        self.told: list[Slot] = []
        self.feeds = [{"x": np.full((1, 4), k, np.float32)} for k in range(FEEDS)]

    def release(self) -> None:
        """Let what hangs in the device go on."""

    def judge(self) -> None:
        """Check what must hold when the engine is closed."""
        ledger, slots = self.ledger, self.slots
        deadline = time.monotonic() + PATIENCE_S
        while any(slot.ended == 0 for slot in slots) and time.monotonic() < deadline:
            self.release()
            time.sleep(0.01)
        self.engine.close()
        ledger.wrong("jobs that never ended", sum(slot.ended == 0 for slot in slots))
        ledger.wrong("jobs that ended twice", sum(slot.ended > 1 for slot in slots))
        ledger.wrong("callbacks not called once", sum(slot.told != slot.wants_callback for slot in slots))
        if self.engine.options.sequential_callbacks:
            ids = [slot.job_id for slot in self.told]
            ledger.wrong("callbacks out of order", sum(b < a for a, b in itertools.pairwise(ids)))
        stats = self.engine.stats()
        ledger.wrong("jobs lost in the counters", stats.accepted - stats.completed - stats.failed - stats.cancelled)
        for name in ("accepted", "completed", "failed", "cancelled", "dropped", "runs"):
            ledger.add(name, getattr(stats, name))
        ledger.add(f"{self.name}: jobs and runs", stats.accepted + stats.runs)
        ledger.add("cores taken out of service", len(stats.notes))


class FakeArena(Arena):
    """Thread lanes on the fake device."""

    name = "thread lanes, fake device"

    def __init__(self, options: EngineOptions, dice: random.Random, ledger: Ledger) -> None:
        self._dice = dice
        self._hanging = threading.Event()
        self._hangs = HANGS if options.run_timeout_ms else 0.0
        self.device = FakeDevice(CORES, gated=False, compute=self._compute)
        engine = Engine(fake_program(self.device), options, lanes=ThreadLanes)
        super().__init__(engine, [np.full((1, 4), k + 0.5, np.float32) for k in range(FEEDS)], ledger)

    def _compute(self, code: SegmentCode, inputs: Sequence[Any]) -> Sequence[Any]:
        chance = self._dice.random()
        result = [inputs[0] + np.float32(0.5)]
        if chance < self._hangs:
            self.ledger.add("hangs")
            self._hanging.wait(PATIENCE_S)
        elif chance < FAULTS:
            self.ledger.add("faults")
            raise DeviceError("rknn_run failed", call="rknn_run", code=-1)
        elif chance > 0.5:
            time.sleep((chance - 0.5) / 500)  # up to 1 ms
        return result

    def release(self) -> None:
        hanging, self._hanging = self._hanging, threading.Event()
        hanging.set()

    def judge(self) -> None:
        super().judge()
        self.release()
        if not self.device.wait_closed(PATIENCE_S):
            self.ledger.wrong("contexts left", len(self.device.alive))
        self.ledger.wrong("misuses of a device", len(self.device.misuse))


class NativeArena(Arena):
    """Native lanes on the emulated librknnrt."""

    name = "native lanes, emulated runtime"
    expected_answers: Sequence[Any] = ()

    def __init__(self, emulator: Emulator, options: EngineOptions, dice: random.Random, ledger: Ledger) -> None:
        self.emulator = emulator
        emulator.reset()
        emulator.configure(cores=CORES, pattern=",".join(str(dice.choice((0, 100, 300, 1000))) for _ in range(40)))
        code = segment(MODEL)
        device = npu(emulator)
        part = NpuPart("npu_0", ("x",), ("y",), code)
        engine = Engine(Program.from_parts([part], device, outputs=["y"]), options, on_closed=device.close)
        assert type(engine._core.lanes).__name__ == "NativeLanes"
        if not NativeArena.expected_answers:
            feeds = [np.full((1, 4), k, np.float32) for k in range(FEEDS)]
            NativeArena.expected_answers = [MODEL.answer([feed])[0] for feed in feeds]
        super().__init__(engine, NativeArena.expected_answers, ledger)
        emulator.configure(fault=self._faults(dice, bool(options.run_timeout_ms)))

    def _faults(self, dice: random.Random, hangs: bool) -> str:
        """Faults of the next 5000 runs; the emulator holds 64 of them."""
        calls = ["rknn_run"] * 4 + ["rknn_inputs_set", "rknn_outputs_get"]
        planned = []
        for place in range(50):
            call = dice.choice(calls)
            hang = hangs and call == "rknn_run" and dice.random() < HANGS / FAULTS
            self_name = "hangs" if hang else "faults"
            planned.append((f"{call}@{dice.randint(1, 100) + 100 * place}={'hang' if hang else -1}", self_name))
        self._planned = Counter(kind for _, kind in planned)
        return ";".join(text for text, _ in planned)

    def release(self) -> None:
        self.emulator.release_hangs()

    def judge(self) -> None:
        super().judge()
        deadline = time.monotonic() + PATIENCE_S
        while self.emulator.count("contexts") and time.monotonic() < deadline:
            self.release()
            time.sleep(0.01)
        self.ledger.wrong("contexts left", self.emulator.count("contexts"))
        self.ledger.wrong("misuses of a device", sum(self.emulator.misuses().values()))
        share = min(1.0, self.emulator.count("rknn_run") / 5000)
        for kind, number in self._planned.items():
            self.ledger.add(kind, round(number * share))


def submitter(arenas: Sequence[Arena], stop: threading.Event, seed: int, ledger: Ledger) -> None:
    """Submit to the arenas until told to stop, or until they are closed."""
    dice = random.Random(seed)
    flying: deque[tuple[InferenceJob, Any]] = deque()
    open_arenas = list(arenas)
    while open_arenas and not stop.is_set():
        arena = dice.choice(open_arenas)
        try:
            one(arena, dice, flying)
        except SubmitTimeout:
            ledger.add("refused for want of room")
        except SessionClosed:
            open_arenas.remove(arena)
        except (DeviceError, DeviceUnavailable):
            ledger.add("run() that failed")
        except Exception as error:
            ledger.wrong(f"{type(error).__name__}: {error}")
        while len(flying) > 32:
            check(*flying.popleft(), ledger)
    for job, right in flying:
        check(job, right, ledger)


def one(arena: Arena, dice: random.Random, flying: deque[tuple[InferenceJob, Any]]) -> None:
    """One inference, one way or another."""
    k = dice.randrange(FEEDS)
    feed, right, way = arena.feeds[k], arena.expected[k], dice.random()
    if way < 0.1:
        [result] = arena.engine.run(feed)
        arena.ledger.wrong("wrong results", not np.array_equal(result, right))
        return
    slot = Slot(way >= 0.3)
    if slot.wants_callback:

        def callback(results: Any, user: Slot, error: str) -> None:
            user.told += 1
            arena.told.append(user)
            if not error:
                arena.ledger.wrong("wrong results", not np.array_equal(results[0], right))

        job = arena.engine.submit(feed, callback=callback, user_data=slot, timeout=dice.choice((None, 0)))
    elif way < 0.2:
        job = arena.engine.submit_parked(feed)
    else:
        job = arena.engine.submit(feed)
    slot.job_id = job.job_id
    arena.slots.append(slot)

    def ended(_: Any) -> None:
        slot.ended += 1

    job.add_done_callback(ended)
    flying.append((job, right))
    if dice.random() < CANCELS:
        job.cancel()


def check(job: InferenceJob, right: Any, ledger: Ledger) -> None:
    """Wait for a job and look at its result."""
    if not job.wait(PATIENCE_S):
        ledger.wrong("jobs that did not end in time")
    elif not job.cancelled():
        error = job.exception()
        if error is None:
            ledger.wrong("wrong results", not np.array_equal(job.result()[0], right))
        elif not isinstance(error, (DeviceError, DeviceUnavailable)):
            ledger.wrong(f"a job's error is {type(error).__name__}: {error}")


def options(dice: random.Random) -> EngineOptions:
    """Habits of an engine, by chance."""
    return EngineOptions(
        schedule=dice.choice((None, None, (0, 1, 2), (0, 0, 1))),
        threads_per_core=dice.choice((1, 2)),
        max_queue_size=dice.choice((3, 16, 64)),
        sequential_callbacks=dice.random() < 0.8,
        overflow=dice.choice(("block", "block", "raise", "drop_oldest")),
        disable_dup_context=dice.random() < 0.2,
        run_timeout_ms=dice.choice((0, LIMIT_MS)),
    )


def play(emulator: Emulator, seed: int, threads: int, seconds: float, ledger: Ledger) -> None:
    """One round: open, storm, close in one way or another, judge."""
    dice = random.Random(seed)
    arenas: list[Arena] = [
        FakeArena(options(dice), random.Random(seed + 1), ledger),
        NativeArena(emulator, options(dice), dice, ledger),
    ]
    stop = threading.Event()
    workers = [
        threading.Thread(target=submitter, args=(arenas, stop, seed * 100 + number, ledger))
        for number in range(threads)
    ]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.1)
        for arena in arenas:
            arena.release()
    closers = []
    for arena in arenas:  # while the others still submit
        closer = threading.Thread(target=arena.engine.close, kwargs={"cancel_jobs": dice.random() < 0.5})
        closer.start()
        closers.append(closer)
    while any(thread.is_alive() for thread in (*closers, *workers)):
        for arena in arenas:
            arena.release()
        time.sleep(0.02)
    for arena in arenas:
        arena.judge()


def resident_mb() -> float:
    """Memory of this process now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def system_threads() -> int:
    """Threads of this process, native ones included."""
    return len(list(Path("/proc/self/task").iterdir()))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args(arguments)

    import tempfile

    logging.getLogger("ort_rknn").setLevel(logging.CRITICAL)  # cores leave service all the time
    os.environ["ORT_RKNN_NATIVE_LIBRARY"] = str(build_native())
    ledger = Ledger()
    console = Console()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        from tests.helpers.emulator import build_emulator

        emulator = Emulator(private_copy(build_emulator(), Path(folder)))
        before = (threading.active_count(), system_threads())
        settled = 0.0
        rounds = 0
        while time.monotonic() - begun < wanted.seconds:
            play(emulator, wanted.seed + rounds, wanted.threads, ROUND_S, ledger)
            rounds += 1
            if not settled and time.monotonic() - begun > wanted.seconds / 5:
                settled = resident_mb()
            if rounds % 20 == 0:
                jobs = ledger.counts["accepted"] + ledger.counts["runs"]
                wrong = sum(ledger.violations.values())
                console.print(
                    f"{time.monotonic() - begun:6.0f} s  {jobs:9,} jobs  {wrong} wrong  {resident_mb():.0f} MB"
                )
        deadline = time.monotonic() + 5
        while system_threads() > before[1] and time.monotonic() < deadline:
            time.sleep(0.05)
        after = (threading.active_count(), system_threads())
        memory = resident_mb()

    ledger.wrong("Python threads left", max(0, after[0] - before[0]))
    ledger.wrong("system threads left", max(0, after[1] - before[1]))
    growth = memory - (settled or memory)
    ledger.wrong("memory that grows", growth > 30)  # MB; fragments of the allocator are no leak
    jobs = ledger.counts["accepted"] + ledger.counts["runs"]
    table = Table("soak", "", box=None, pad_edge=False)
    rows: list[tuple[str, object]] = [
        ("jobs", f"{jobs:,} in {time.monotonic() - begun:.0f} s by {wanted.threads} threads"),
        ("engines opened and closed", 2 * rounds),
        *((name, f"{number:,}") for name, number in ledger.counts.items()),
        ("threads before, after", f"{before[0]} ({before[1]} of the system), {after[0]} ({after[1]})"),
        ("memory after a fifth, at the end", f"{settled:.1f} MB, {memory:.1f} MB"),
        ("VIOLATIONS", sum(ledger.violations.values())),
        *((f"  {name}", number) for name, number in ledger.violations.items()),
    ]
    for name, value in rows:
        table.add_row(name, str(value))
    console.print(table)
    return 1 if ledger.violations else 0


if __name__ == "__main__":
    sys.exit(main())
