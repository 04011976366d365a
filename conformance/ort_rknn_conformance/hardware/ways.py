"""``ort-rknn board-test``: what a board's owner runs once, so that the project knows what is true on real hardware.

The bundled compiled models on every core and core mask, in the engine's ways of running them, each answer against CPU
onnxruntime's; what the runtime can do beyond that; times as they come. The same runs on the simulator and on the tests'
emulated runtime, which proves the command and nothing about a board.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ort_rknn.api.session import InferenceSession
from ort_rknn.devices.base import ALL_CORES, AUTO, Device
from ort_rknn.devices.rknnrt.device import NpuDevice
from ort_rknn.engine.lanes.schedule import TP_MODES
from ort_rknn.ort_conventions import RKNN_PROVIDER
from ort_rknn_conformance.doctor.board_models import MODELS, BoardModel
from ort_rknn_conformance.hardware.features import feature_attempts
from ort_rknn_conformance.hardware.trial import Attempt, Trial
from ort_rknn_converters.numerics.tensor_error import compare
from ort_rknn_converters.numerics.tolerance import softmax_outputs, tolerance

__all__ = ["attempts", "board_test"]

FEEDS = 4

Answers = Sequence[NDArray[Any]]
Way = Callable[[Any, list[dict[str, NDArray[Any]]], int], tuple[list[Answers], list[float]]]


def board_test(device: Device, target: str, *, runs: int) -> list[Trial]:
    """Run every trial on a device, in this process.

    Args:
        device: The NPU, or what stands in.
        target: SoC, which chooses the bundled models.
        runs: Inferences per trial.

    Raises:
        FileNotFoundError: There are no bundled models for this SoC.
    """
    return [trial for attempt in attempts(device, target, runs=runs) for trial in attempt.run()]


def attempts(device: Device, target: str, *, runs: int) -> Iterator[Attempt]:
    """Everything that is to be tried, in the order of the report; nothing is run before it is asked for.

    Args:
        device: The NPU, or what stands in.
        target: SoC, which chooses the bundled models.
        runs: Inferences per trial.

    Raises:
        FileNotFoundError: There are no bundled models for this SoC.
    """
    conv, *others = MODELS
    work = others.pop()
    yield from _ways("cores", _Later(conv, target, device, runs))
    for model in others:
        later = _Later(model, target, device, FEEDS)
        for core in range(device.cores):
            yield later.attempt("models", f"{model.about}, core {core}", _one_at_a_time, schedule=[core])
        if model.name == "operators":
            names = tuple(output.name for output in model.source().graph.output)
            yield Attempt("operators", names, later.by_output)
    if isinstance(device, NpuDevice):
        yield from feature_attempts(device, target)
    yield from _ways("speed", _Later(work, target, device, runs))


def _ways(group: str, later: _Later) -> Iterator[Attempt]:
    """One model on each core, on each core mask, and with several inferences in flight."""
    cores = later.device.cores
    everywhere = list(range(cores))
    for core in everywhere:
        yield later.attempt(group, f"core {core}, one at a time", _one_at_a_time, schedule=[core])
    for mode, mask in TP_MODES.items():
        if not mode.isdigit() and (mask in (AUTO, ALL_CORES) or mask < 1 << cores):
            yield later.attempt(group, f"core mask {mode}", _one_at_a_time, tp_mode=mode)
    yield later.attempt(group, "all cores, several in flight", _in_flight, schedule=everywhere)
    yield later.attempt(group, "all cores, two contexts each", _in_flight, schedule=everywhere, threads_per_core=2)
    yield later.attempt(
        group, "all cores, weights loaded for each", _in_flight, schedule=everywhere, disable_dup_context=True
    )


class _Later:
    """A bench that is set up when the first attempt on it is made."""

    def __init__(self, model: BoardModel, target: str, device: Device, runs: int) -> None:
        model.read(target)  # whether it is there is asked at once
        self.device = device
        self._make = partial(_BoardSession, model, target, device, runs)
        self._made: _BoardSession | None = None

    def _bench(self) -> _BoardSession:
        self._made = self._made or self._make()
        return self._made

    def attempt(self, group: str, name: str, way: Way, **options: Any) -> Attempt:
        """One way of running it."""
        return Attempt(group, (name,), lambda: [self._bench().trial(group, name, way, **options)])

    def by_output(self) -> list[Trial]:
        """Largest error of each output on any core."""
        return self._bench().by_output("operators")


class _BoardSession:
    """A model, its feeds and the right answers."""

    def __init__(self, model: BoardModel, target: str, device: Device, runs: int) -> None:
        self.device = device
        self._model = model
        self._compiled = model.read(target)
        self._runs = runs
        self._feeds = model.feeds(FEEDS)
        original = model.source()
        reference = onnxruntime.InferenceSession(original.SerializeToString(), providers=["CPUExecutionProvider"])
        self._names = [output.name for output in reference.get_outputs()]
        self._right = [reference.run(None, feed) for feed in self._feeds]
        softmax = softmax_outputs(original)
        self._limits = [tolerance(model.precision, name in softmax) for name in self._names]
        self._seen: dict[str, float] = {}

    def trial(self, group: str, name: str, way: Way, **options: Any) -> Trial:
        """Open a session with these options and run it this way; whatever goes wrong is a result."""
        said = onnxruntime.SessionOptions()
        said.log_severity_level = 4
        try:
            session = InferenceSession(
                self._compiled,
                said,
                providers=[(RKNN_PROVIDER, options), "CPUExecutionProvider"],
                device=self.device,
                enable_fallback=0,  # what goes wrong is the result
            )
            try:
                session.run(None, self._feeds[0])  # the first one pays for the start
                start = time.perf_counter()
                answers, times = way(session, self._feeds, self._runs)
                seconds = time.perf_counter() - start
            finally:
                session.close()
        except Exception as error:
            return Trial(group, name, False, f"{type(error).__name__}: {error}".partition("\n")[0])
        off = self._look(answers)
        wrong = {one: size for (one, size), limit in zip(off.items(), self._limits, strict=True) if not size <= limit}
        times_ms = sorted(1000 * one for one in times)
        return Trial(
            group,
            name,
            not wrong,
            "right" if not wrong else f"wrong numbers: {_worst(wrong)}",
            max(off.values()),
            statistics.median(times_ms) if times_ms else None,
            times_ms[len(times_ms) * 95 // 100] if times_ms else None,
            len(answers) / seconds,
        )

    def by_output(self, group: str) -> list[Trial]:
        """Largest error of each output on any core."""
        tried = [self.trial(group, "", _one_at_a_time, schedule=[core]) for core in range(self.device.cores)]
        failed = next((trial.said for trial in tried if trial.rel_rms is None), "")
        if failed:
            return [Trial(group, name, False, failed) for name in self._names]
        rows = []
        for name, limit in zip(self._names, self._limits, strict=True):
            if name in self._seen:
                size = self._seen[name]
                said = "right" if size <= limit else f"wrong numbers: off by {size:.2g} (relative RMS)"
                rows.append(Trial(group, name, size <= limit, said, size))
        return rows

    def _look(self, answers: Sequence[Answers]) -> Mapping[str, float]:
        """Each output's worst relative RMS; what is not a float must be equal."""
        found: dict[str, float] = {}
        for number, name in enumerate(self._names):
            sizes = [
                _off(self._right[run % FEEDS][number], np.asarray(answer[number])) for run, answer in enumerate(answers)
            ]
            found[name] = max(sizes, default=0.0)
            self._seen[name] = max(found[name], self._seen.get(name, 0.0))
        return found


def _off(right: NDArray[Any], answer: NDArray[Any]) -> float:
    if right.dtype.kind != "f":
        return 0.0 if right.dtype == answer.dtype and np.array_equal(right, answer) else float("inf")
    error = compare(right, answer)
    return float("inf") if error.nan_mismatch or not error.shape_ok else error.rel_rms


def _worst(wrong: Mapping[str, float]) -> str:
    name, size = max(wrong.items(), key=lambda item: item[1])
    return f"{name} is off by {size:.2g} (relative RMS)"


def _one_at_a_time(session: Any, feeds: list[dict[str, NDArray[Any]]], runs: int) -> tuple[list[Answers], list[float]]:
    """Each inference waits for the one before; gives the answers and the seconds each took."""
    answers, times = [], []
    for number in range(runs):
        start = time.perf_counter()
        answers.append(session.run(None, feeds[number % FEEDS]))
        times.append(time.perf_counter() - start)
    return answers, times


def _in_flight(session: Any, feeds: list[dict[str, NDArray[Any]]], runs: int) -> tuple[list[Answers], list[float]]:
    """All are submitted at once; gives the answers."""
    jobs = [session.submit(None, feeds[number % FEEDS]) for number in range(runs)]
    return [job.result(timeout=60) for job in jobs], []
