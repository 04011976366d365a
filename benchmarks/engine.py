"""What the engine costs and what it reaches, on pretend cores: the price of run(), and the async share of the ideal.

The device sleeps for its latency, so this measures the engine and not the computer's arithmetic. A sleeping device
overshoots (measured here: 60 us and more on a busy machine); the share is therefore given against the rate of the
device itself, called in a loop without an engine, and, beside it, against the latency that was asked for.

    python benchmarks/engine.py [--seconds 1.0] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ort_rknn.devices.base import AUTO, Context, SegmentCode, TensorSpec, core_mask
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.options import EngineOptions
from ort_rknn.program import NpuPart, Program

SHAPE = (1, 4)
FEED = {"x": np.ones(SHAPE, np.float32)}
LATENCIES_MS = (0.5, 1.0, 5.0)
CORES = (1, 2, 3)


class SleepingDevice:
    """A device that does nothing but take its time."""

    name = "sleeping"

    def __init__(self, cores: int, latency_s: float) -> None:
        self.cores = cores
        self.latency_s = latency_s

    def open(self, code: SegmentCode, mask: int = AUTO, share: Context | None = None) -> SleepingContext:
        return SleepingContext(self.latency_s)

    def describe(self) -> dict[str, Any]:
        return {"device": self.name}

    def close(self) -> None:
        pass


class SleepingContext:
    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s

    def run(self, inputs: Sequence[Any], wanted: Sequence[bool] | None = None) -> list[Any]:
        if self._latency_s:
            time.sleep(self._latency_s)
        return [np.empty(SHAPE, np.float32)]

    def close(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {}


def make_engine(cores: int, latency_s: float, **options: Any) -> tuple[Engine, SleepingDevice]:
    specs = [(TensorSpec(name, np.dtype("float32"), SHAPE),) for name in ("x", "y")]
    code = SegmentCode("npu_0", specs[0], specs[1], "rk3588", "fp16", None, None)
    device = SleepingDevice(cores, latency_s)
    program = Program.from_parts([NpuPart("npu_0", ("x",), ("y",), code)], device, outputs=["y"])
    return Engine(program, EngineOptions(**options)), device


def per_call(function: Callable[[], object], seconds: float, rounds: int = 5) -> float:
    """Median over a few rounds of the mean time of a call, in seconds."""
    function()
    begun = time.perf_counter()
    function()
    count = max(3, int(seconds / rounds / max(time.perf_counter() - begun, 1e-6)))
    means = []
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(count):
            function()
        means.append((time.perf_counter() - begun) / count)
    return statistics.median(means)


def overheads(seconds: float) -> dict[str, float]:
    """Microseconds a call costs above the bare device, latency 0."""
    engine, device = make_engine(1, 0.0)
    context = device.open(SegmentCode("", (), (), "", "", None, None), core_mask([0]))
    bare = per_call(lambda: context.run([FEED["x"]]), seconds)
    rows = {
        "run(), idle lane: in the caller's thread": per_call(lambda: engine.run(FEED), seconds),
        "submit().result(): through the lane's thread": per_call(lambda: engine.submit(FEED).result(), seconds),
    }
    engine.close()
    limited, _ = make_engine(1, 0.0, run_timeout_ms=60_000)
    rows["run() with run_timeout_ms: through the lane's thread"] = per_call(lambda: limited.run(FEED), seconds)
    limited.close()
    return {name: 1e6 * (value - bare) for name, value in rows.items()}


def shares(cores: int, latency_ms: float, seconds: float) -> dict[str, float]:
    """Async throughput with ordered callbacks, as a share of what the cores could do."""
    engine, device = make_engine(cores, latency_ms / 1000)
    context = device.open(SegmentCode("", (), (), "", "", None, None))
    bare = per_call(lambda: context.run([FEED["x"]]), seconds / 2)

    def stream(jobs: int) -> float:
        begun = time.perf_counter()
        for _ in range(jobs):
            engine.submit(FEED, callback=_ignore)
        engine.wait_all()
        return time.perf_counter() - begun

    stream(2 * cores)
    jobs = max(20, int(seconds * cores / bare))
    rate = jobs / stream(jobs)
    engine.close()
    return {
        "cores": cores,
        "latency_ms": latency_ms,
        "per_second": rate,
        "share_of_device": rate * bare / cores,
        "share_of_asked": rate * latency_ms / 1000 / cores,
    }


def _ignore(*_: object) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description="Cost and reach of the engine on pretend cores.")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each figure")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(arguments)

    report: dict[str, Any] = {"python": sys.version.split()[0], "lanes": "thread"}
    report["overhead_us"] = overheads(options.seconds)
    print("Cost of a call above the bare device (latency 0), microseconds")
    for name, value in report["overhead_us"].items():
        print(f"  {name:<55}{value:8.1f}")

    print("\nAsync throughput with ordered callbacks, default limits")
    print(f"  {'cores':>5} {'latency':>8} {'per second':>11} {'of the device':>14} {'of the asked':>13}")
    report["async"] = []
    for latency in LATENCIES_MS:
        for cores in CORES:
            row = shares(cores, latency, options.seconds)
            report["async"].append(row)
            print(
                f"  {cores:>5} {latency:>5.1f} ms {row['per_second']:>11.0f} {row['share_of_device']:>13.1%} "
                f"{row['share_of_asked']:>12.1%}"
            )
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


if __name__ == "__main__":
    main()
