"""A soak: 8 threads submit to both kinds of lanes while devices fail, hang, die and revive and engines close and open.

Up to four engines share one NPU, of mixed classes.

Checked all the time: every job ends exactly once, with the right numbers, its callback told once and in order; at the
end: no thread, context or memory is left. `make soak` runs it for ten minutes.

    python benchmarks/soak.py [--seconds 600] [--threads 8] [--seed 0]
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.soak_arenas import FEEDS, PATIENCE_S, Arena, FakeArena, Ledger, NativeArena, Slot
from ort_rknn.engine.job import InferenceJob
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import DeviceError, DeviceUnavailable, SessionClosed, SubmitTimeout
from tests.helpers.emulated_npu import build_native
from tests.helpers.emulator import Emulator, private_copy

CANCELS = 0.03
LIMIT_MS = 50  # of an inference, in the rounds with hangs
ROUND_S = 1.2  # about as many inferences as the emulator's table of faults reaches


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
        threads_per_core=dice.choice((1, 2, None)),
        max_queue_size=dice.choice((3, 16, 64)),
        sequential_callbacks=dice.random() < 0.8,
        overflow=dice.choice(("block", "block", "raise", "drop_oldest")),
        disable_dup_context=dice.random() < 0.2,
        run_timeout_ms=dice.choice((0, LIMIT_MS)),
        priority=dice.choice(("high", "normal", "normal", "low")),
        reserve=dice.choice((0, 0, 0, 1)),
    )


def play(emulator: Emulator, seed: int, threads: int, seconds: float, ledger: Ledger) -> None:
    """One round: open, storm, close in one way or another, judge."""
    dice = random.Random(seed)
    arenas: list[Arena] = [
        FakeArena(options(dice), random.Random(seed + 1), ledger),
        NativeArena(emulator, options(dice), dice, ledger),
    ]
    arenas += [NativeArena(emulator, options(dice), dice, ledger, first=False) for _ in range(dice.randint(0, 3))]
    opened = len(arenas)
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
    for arena in reversed(arenas):  # the one that set up the emulator comes after those that share it
        arena.judge()
    ledger.add("engines opened and closed", opened)


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
