"""Sharing one NPU: sessions and processes side by side, classes, a process that is killed; on the emulator.

Each row is beside the floor of the same run: bare C calls of the same model, a thread and a context a core. The cores
of the emulator queue as the driver's do, for all processes of a row together. Nothing here was seen on a board.

    python benchmarks/sharing.py [--seconds 3] [row ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.engine_rig import Bare, Rig, Work
from ort_rknn_converters.onnx_file.blobs import BytesBlob

CORES = 3
JOB_MS = 5.0
SMALL_MS = 1.0
SMALL_GAP_S = 0.066  # about 15 small jobs a second
BULK_MS = 20.0
WORK = Work((1, 16), ((1, 16),))


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, what it must be, and whether it is."""

    name: str
    value: str
    target: str
    good: bool


@dataclass
class Client:
    """One session that is kept busy, and what it has done.

    Attributes:
        latency_ms: Of its model.
        threads: Blocking ``run`` calls at a time; 0 keeps its queue full by ``run_async``.
        gap_s: Pause between two calls.
        options: Provider options.
    """

    latency_ms: float
    threads: int = 1
    gap_s: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    done: int = 0
    times: list[float] = field(default_factory=list)

    def work(self, rig: Rig, start: threading.Event, stop: threading.Event) -> threading.Thread:
        """Open the session now; the thread returned works from ``start`` to ``stop`` and then closes it."""
        model = WORK.model()
        code = type(model)(model.inputs, model.outputs, latency_us=int(self.latency_ms * 1000)).data()
        compiled = WORK.compiled(BytesBlob(code)).to_bytes()
        provider = {"device": "npu", "runtime_library": str(rig.emulator.path), "target": "rk3588", **self.options}

        import ort_rknn

        session = ort_rknn.InferenceSession(compiled, providers=[("RKNNExecutionProvider", provider)])
        feed = WORK.feed()
        session.run(None, feed)

        def count(results: Any, user_data: Any, error: str) -> None:
            if error:
                raise RuntimeError(error)
            self.done += not stop.is_set()

        def blocking() -> None:
            while not stop.is_set():
                begun = time.perf_counter()
                session.run(None, feed)
                if not stop.is_set():
                    self.times.append(time.perf_counter() - begun)
                    self.done += 1
                if self.gap_s:
                    stop.wait(self.gap_s)

        def main() -> None:
            start.wait()
            if self.threads:
                callers = [threading.Thread(target=blocking) for _ in range(self.threads)]
                for caller in callers:
                    caller.start()
                for caller in callers:
                    caller.join()
            else:
                while not stop.is_set():
                    session.run_async(None, feed, count, None)
            session.close()

        thread = threading.Thread(target=main)
        thread.start()
        return thread


@dataclass
class Scene:
    """What a stretch of work came to: jobs a second of each client, jobs of each core, most contexts open at once."""

    rates: list[float]
    cores: list[int]
    contexts: int

    @property
    def least_core(self) -> float:
        """Share of the jobs that the idlest core had."""
        return min(self.cores) / max(1, sum(self.cores))


def play(rig: Rig, clients: Sequence[Client], seconds: float) -> Scene:
    """All clients at once, in this process."""
    start, stop = threading.Event(), threading.Event()
    threads = [client.work(rig, start, stop) for client in clients]
    before = [rig.emulator.count(f"core{core}_runs") for core in range(CORES)]
    start.set()
    time.sleep(seconds / 4)  # contexts are opened and given back
    counts, begun, contexts = [client.done for client in clients], time.perf_counter(), 0
    for client in clients:
        client.times.clear()
    while time.perf_counter() - begun < seconds:
        contexts = max(contexts, rig.emulator.count("contexts"))
        time.sleep(0.05)
    rates = [(c.done - n) / (time.perf_counter() - begun) for c, n in zip(clients, counts, strict=True)]
    stop.set()
    for thread in threads:
        thread.join()
    cores = [rig.emulator.count(f"core{core}_runs") - number for core, number in enumerate(before)]
    return Scene(rates, cores, contexts)


def floor(rig: Rig, latency_ms: float, seconds: float) -> float:
    """Jobs a second by bare calls, all cores."""
    rig.emulator.configure(latency_us=int(latency_ms * 1000))
    bare = Bare(rig.emulator.path, WORK)
    jobs = int(CORES * max(30, 1000 * seconds / latency_ms / 3))
    begun = time.perf_counter()
    bare.stream(jobs)
    rate = jobs / (time.perf_counter() - begun)
    bare.close()
    return rate


# --- several processes ------------------------------------------------------------------------------------------------


class Process:
    """A program with one client."""

    def __init__(self, client: Client, board: Path) -> None:
        wish = json.dumps([client.latency_ms, client.threads, client.gap_s, client.options])
        command = [sys.executable, __file__, "--client", wish]
        environment = {**os.environ, "EMU_SHARED": str(board)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ready(self) -> None:
        """Wait until its session is open."""
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError("a client has not come up")

    def say(self, word: str) -> None:
        """``start``, ``mark`` or ``stop``."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def marks(self) -> list[float]:
        """Time, jobs so far, and milliseconds of the latest calls."""
        self.say("mark")
        assert self.process.stdout is not None
        answer: list[float] = json.loads(self.process.stdout.readline())
        return answer


def client_main(wish: str) -> int:
    """A process's side."""
    latency, threads, gap, options = json.loads(wish)
    client = Client(latency, threads, gap, options)
    start, stop = threading.Event(), threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        thread = client.work(Rig(Path(folder)), start, stop)
        print("ready", flush=True)
        for word in sys.stdin:
            if word.strip() == "start":
                start.set()
            elif word.strip() == "mark":
                times, client.times = client.times, []
                print(json.dumps([time.monotonic(), client.done, *(1000 * one for one in times)]), flush=True)
            else:
                break
        stop.set()
        start.set()
        thread.join()
    return 0


def processes(clients: Sequence[Client], folder: Path) -> list[Process]:
    """Programs that share a board, all at work."""
    board = Path(tempfile.mkstemp(dir=folder)[1])
    made = [Process(client, board) for client in clients]
    for process in made:
        process.ready()
    for process in made:
        process.say("start")
    return made


def end(made: Sequence[Process]) -> None:
    """Have programs end."""
    for process in made:
        if process.process.poll() is None:
            process.say("stop")
    for process in made:
        process.process.wait()


def measured(made: Sequence[Process], seconds: float) -> tuple[list[float], list[list[float]]]:
    """Jobs a second of each, and the milliseconds of their calls."""
    time.sleep(seconds / 4)
    first = [process.marks() for process in made]
    time.sleep(seconds)
    last = [process.marks() for process in made]
    rates = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(first, last, strict=True)]
    return rates, [one[2:] for one in last]


# --- the rows ---------------------------------------------------------------------------------------------------------


def blocking_sessions(rig: Rig, seconds: float, folder: Path) -> list[Row]:
    """Sessions of one process, one thread each."""
    rows = []
    most = floor(rig, JOB_MS, seconds)
    for number in (3, 5):
        scene = play(rig, [Client(JOB_MS) for _ in range(number)], seconds)
        ratio, least = sum(scene.rates) / most, scene.least_core
        text = f"{sum(scene.rates):.0f}/s of {most:.0f}, {ratio:.1%}; cores {scene.cores}"
        rows.append(Row(f"{number} sessions, run", text, "95 %, no core under 25 %", ratio >= 0.95 and least >= 0.25))
    return rows


def blocking_processes(rig: Rig, seconds: float, folder: Path) -> list[Row]:
    """Processes, one thread each."""
    rows = []
    most = floor(rig, JOB_MS, seconds)
    for number in (3, 5):
        made = processes([Client(JOB_MS) for _ in range(number)], folder)
        rates, _ = measured(made, seconds)
        end(made)
        text = f"{sum(rates):.0f}/s of {most:.0f}, {sum(rates) / most:.1%}"
        rows.append(Row(f"{number} processes, run", text, "85 %", sum(rates) / most >= 0.85))
    return rows


def async_sessions(rig: Rig, seconds: float, folder: Path) -> list[Row]:
    """Sessions that keep their queues full."""
    most = floor(rig, JOB_MS, seconds)
    scene = play(rig, [Client(JOB_MS, threads=0) for _ in range(5)], seconds)
    ratio = sum(scene.rates) / most
    rates = ", ".join(f"{rate:.0f}" for rate in scene.rates)
    text = f"{sum(scene.rates):.0f}/s of {most:.0f}, {ratio:.1%} ({rates}); {scene.contexts} contexts"
    return [
        Row("5 sessions, run_async", text, f"98 %, {2 * CORES} contexts", ratio >= 0.98 and scene.contexts <= 2 * CORES)
    ]


def small_beside_bulk(rig: Rig, seconds: float, folder: Path) -> list[Row]:
    """A small model now and then beside a big one that never rests."""
    rows = []
    most = floor(rig, BULK_MS, seconds)
    limit = BULK_MS + 2
    for name, bulk, small, target, share in (
        ("all equal", {}, {}, None, 0.0),
        ("small high", {}, {"priority": "high"}, limit, 0.95),
        ("small high, reserve=1", {}, {"priority": "high", "reserve": 1}, 5.0, 0.0),
        ("bulk low", {"priority": "low"}, {}, limit, 0.95),
    ):
        clients = [Client(BULK_MS, threads=0, options=bulk), Client(SMALL_MS, gap_s=SMALL_GAP_S, options=small)]
        scene = play(rig, clients, max(seconds, 6.0))
        rows.append(_beside(f"{name}", scene.rates[0] / most, clients[1].times, target, share))
    for name, options in (("two processes", {}), ('two processes, arbiter="machine"', {"arbiter": "machine"})):
        made = processes(
            [
                Client(BULK_MS, threads=0, options=options),
                Client(SMALL_MS, gap_s=SMALL_GAP_S, options={"priority": "high", **options}),
            ],
            folder,
        )
        rates, times = measured(made, max(seconds, 6.0))
        end(made)
        small_times = [one / 1000 for one in times[1]]
        rows.append(_beside(name, rates[0] / most, small_times, limit if options else None, 0.9 if options else 0.0))
    return rows


def _beside(name: str, share: float, times: Sequence[float], target: float | None, least: float) -> Row:
    p50, p95, top = (1000 * float(np.percentile(times, q)) for q in (50, 95, 100))
    text = f"p50 {p50:.1f}, p95 {p95:.1f}, max {top:.1f} ms ({len(times)}); bulk {share:.1%}"
    wish = "-" if target is None else f"p95 {target:g} ms, bulk {least:.0%}"
    return Row(f"small beside bulk, {name}", text, wish, target is None or (p95 <= target and share >= least))


def killed(rig: Rig, seconds: float, folder: Path) -> list[Row]:
    """One of three programs is killed in the middle of its work."""
    rows = []
    most = floor(rig, JOB_MS, seconds)
    for name, options in (("", {}), (', arbiter="machine"', {"arbiter": "machine"})):
        made = processes([Client(JOB_MS, threads=0, options=options) for _ in range(3)], folder)
        measured(made, seconds / 2)
        victim, others = made[0], made[1:]
        victim.process.kill()
        victim.process.wait()
        time.sleep(0.1)
        first = [process.marks() for process in others]
        time.sleep(seconds / 2)
        last = [process.marks() for process in others]
        end(others)
        rate = sum((b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(first, last, strict=True))
        text = f"the two others: {rate:.0f}/s of {most:.0f}, {rate / most:.1%}"
        rows.append(Row(f"kill -9 of one of three{name}, from 100 ms on", text, "95 %", rate / most >= 0.95))
    return rows


ROWS: dict[str, Callable[[Rig, float, Path], list[Row]]] = {
    "sessions": blocking_sessions,
    "processes": blocking_processes,
    "async": async_sessions,
    "beside": small_beside_bulk,
    "killed": killed,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the status is 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="default: all")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    wanted = parser.parse_args(arguments)
    if wanted.client:
        return client_main(wanted.client)
    key = str(0x7E580000 + os.getpid() % 0x10000)  # not the semaphores of programs that really run here
    os.environ["ORT_RKNN_ARBITER_KEY"] = key
    table = Table("sharing one NPU", "", "must", "", box=None, pad_edge=False)
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        rig = Rig(Path(name))
        for each in wanted.rows or ROWS:
            for row in ROWS[each](rig, wanted.seconds, Path(name)):
                table.add_row(row.name, row.value, row.target, "" if row.good else "MISSED")
                missed += not row.good
    subprocess.run(["ipcrm", "-S", key], check=False, capture_output=True)
    Console(width=160).print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
