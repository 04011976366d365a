"""Programs on fake devices, and threads that may block: what the engine's tests are made of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from ort_rknn.devices.base import SegmentCode, TensorSpec
from ort_rknn.devices.fake import FakeDevice
from ort_rknn.devices.program import BoundCpuStep, BoundNpuStep, Program

SHAPE = (1, 4)
LONG = 20.0
"""Seconds no test may wait for: reached only when something is broken."""
MOMENT = 0.05
"""Seconds after which what should block is believed to."""

T = TypeVar("T")


def spec(name: str, dtype: str = "float32", shape: tuple[int, ...] = SHAPE) -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), shape)


def segment(name: str = "npu_0", inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",)) -> SegmentCode:
    return SegmentCode(name, tuple(map(spec, inputs)), tuple(map(spec, outputs)), "rk3588", "fp16", None, None)


def npu_part(name: str = "npu_0", inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",)) -> BoundNpuStep:
    return BoundNpuStep(name, tuple(inputs), tuple(outputs), segment(name, inputs, outputs))


def program(device: FakeDevice, inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",)) -> Program:
    """A program with one NPU step."""
    return Program.from_steps([npu_part("npu_0", inputs, outputs)], device, outputs=outputs)


def tag_of(inputs: Sequence[Any]) -> int:
    """The job's number, as :func:`frame` wrote it."""
    return int(inputs[0].flat[0])


def fake(cores: int = 3, **options: Any) -> FakeDevice:
    """A device whose gates are named by the feed's number."""
    return FakeDevice(cores, key=tag_of, **options)


def frame(tag: int) -> dict[str, Any]:
    """A feed that carries a number."""
    return {"x": np.full(SHAPE, tag, np.float32)}


class CpuCode:
    """A CPU step in Python, in the place of an onnxruntime session."""

    def __init__(self, function: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        self._function = function
        self.threads: list[str] = []

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None) -> Any:
        self.threads.append(threading.current_thread().name)
        values = self._function(input_feed)
        return [values[name] for name in output_names or values]


def cpu_part(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    function: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> BoundCpuStep:
    return BoundCpuStep(name, tuple(inputs), tuple(outputs), CpuCode(function))


class Background(Generic[T]):
    """A call on a thread of its own, which may block."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._ended = threading.Event()
        self._result: T | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self.error = error
        self._ended.set()

    def blocks(self) -> bool:
        """Whether the call has not returned after a moment."""
        return not self._ended.wait(MOMENT)

    def result(self) -> T:
        """What it returned, or raise what it raised."""
        assert self._ended.wait(LONG), "the call is still blocked"
        if self.error is not None:
            raise self.error
        return self._result  # type: ignore[return-value]


class Calls:
    """A ``run_async`` callback that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, Any, str]] = []
        self.threads: list[int] = []
        self._changed = threading.Condition()

    def __call__(self, results: Any, user_data: Any, err: str) -> None:
        with self._changed:
            self.seen.append((results, user_data, err))
            self.threads.append(threading.get_ident())
            self._changed.notify_all()

    def order(self) -> list[Any]:
        return [user_data for _, user_data, _ in self.seen]

    def wait(self, count: int) -> list[tuple[Any, Any, str]]:
        """Wait until there were ``count`` calls."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.seen) >= count, LONG), f"{len(self.seen)} of {count} calls"
            return list(self.seen)


def our_threads() -> list[str]:
    """Names of the threads an engine started."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ort_rknn")]
