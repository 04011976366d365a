"""``ort-rknn board-test``: what a board's owner runs once, so that the project knows what is true on real hardware.

A bundled compiled model on every core and core mask, in the engine's ways of running it, each answer against CPU
onnxruntime's; times as they come. The same runs on the simulator, which proves the command and nothing about a board.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np
import onnxruntime

from ort_rknn.devices.base import Device
from ort_rknn.engine.schedule import TP_MODES
from ort_rknn.session import InferenceSession
from ort_rknn_conformance.doctor.bundle import SUFFIX, source
from ort_rknn_converters.frozen import frozen
from ort_rknn_converters.verify import compare, tolerance

__all__ = ["Trial", "board_test"]

RUNS = 100  # inferences a trial: a second or two on a slow core (a guess)
FEEDS = 4


@frozen
class Trial:
    """One way of running the model.

    Attributes:
        name: What was tried.
        ok: Whether all answers were right.
        said: What came of it, in words.
        rel_rms: Worst relative RMS over all answers; ``None`` where none came.
        median_ms: Median time of one inference (one at a time), in milliseconds; ``None`` with several in flight.
        per_second: Inferences per second.
    """

    name: str
    ok: bool
    said: str
    rel_rms: float | None = None
    median_ms: float | None = None
    per_second: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def board_test(device: Device, target: str, *, runs: int = RUNS) -> list[Trial]:
    """Run every trial on a device.

    Args:
        device: The NPU, or what stands in.
        target: SoC, which chooses the bundled model.
        runs: Inferences per trial.

    Raises:
        FileNotFoundError: There is no bundled model for this SoC.
    """
    model = (resources.files("ort_rknn_conformance.doctor") / "models" / f"{target}{SUFFIX}").read_bytes()
    bench = _Bench(model, device, runs)
    trials = [
        bench.trial(f"core {core}, one at a time", _one_at_a_time, schedule=[core]) for core in range(device.cores)
    ]
    masks = [mode for mode, mask in TP_MODES.items() if not mode.isdigit() and _fits(mask, device.cores)]
    trials += [bench.trial(f"core mask {mode}", _one_at_a_time, tp_mode=mode) for mode in masks]
    everywhere = list(range(device.cores))
    trials.append(bench.trial("all cores, several in flight", _in_flight, schedule=everywhere))
    trials.append(bench.trial("all cores, two contexts each", _in_flight, schedule=everywhere, threads_per_core=2))
    trials.append(
        bench.trial("all cores, weights loaded for each", _in_flight, schedule=everywhere, disable_dup_context=True)
    )
    return trials


def _fits(mask: int, cores: int) -> bool:
    return mask in (0, 0xFFFF) or mask < 1 << cores


class _Bench:
    """The model, its feeds and the right answers."""

    def __init__(self, model: bytes, device: Device, runs: int) -> None:
        self._model = model
        self._device = device
        self._runs = runs
        generator = np.random.default_rng(0)
        self._feeds = [{"x": generator.normal(0, 1, (1, 8, 8, 8)).astype(np.float32)} for _ in range(FEEDS)]
        reference = onnxruntime.InferenceSession(source().SerializeToString(), providers=["CPUExecutionProvider"])
        self._right = [reference.run(None, feed)[0] for feed in self._feeds]

    def trial(
        self, name: str, way: Callable[[Any, list[Any], int], tuple[list[Any], list[float]]], **options: Any
    ) -> Trial:
        """Open a session with these options and run it this way; whatever goes wrong is a result."""
        said = onnxruntime.SessionOptions()
        said.log_severity_level = 4
        try:
            session = InferenceSession(
                self._model,
                said,
                providers=[("RKNNExecutionProvider", options), "CPUExecutionProvider"],
                device=self._device,
            )
            try:
                session.run(None, self._feeds[0])  # the first one pays for the start
                start = time.perf_counter()
                answers, times = way(session, self._feeds, self._runs)
                seconds = time.perf_counter() - start
            finally:
                session.close()
        except Exception as error:
            return Trial(name, False, f"{type(error).__name__}: {error}".partition("\n")[0])
        off = max(compare(self._right[number % FEEDS], answer).rel_rms for number, answer in enumerate(answers))
        ok = off <= tolerance("fp16", False)
        return Trial(
            name,
            ok,
            "right" if ok else f"wrong numbers: off by {off:.2g} (relative RMS)",
            off,
            statistics.median(times) * 1000 if times else None,
            len(answers) / seconds,
        )


def _one_at_a_time(session: Any, feeds: list[Any], runs: int) -> tuple[list[Any], list[float]]:
    answers, times = [], []
    for number in range(runs):
        start = time.perf_counter()
        answers.append(session.run(None, feeds[number % FEEDS])[0])
        times.append(time.perf_counter() - start)
    return answers, times


def _in_flight(session: Any, feeds: list[Any], runs: int) -> tuple[list[Any], list[float]]:
    jobs = [session.submit(None, feeds[number % FEEDS]) for number in range(runs)]
    return [job.result(timeout=60)[0] for job in jobs], []
