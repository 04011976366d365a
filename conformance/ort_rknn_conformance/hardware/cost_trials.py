"""Measures what operators and transfers cost on one core: the trials behind ``ort-rknn board-test --cost``."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn.devices.base import SegmentCode, TensorSpec
from ort_rknn.devices.rknnrt.device import NpuDevice
from ort_rknn.errors import DeviceError
from ort_rknn_conformance.hardware.cost_models import CostModel, read_all
from ort_rknn_conformance.hardware.trial import Attempt, Trial
from ort_rknn_converters.onnx_file.blobs import BytesBlob
from ort_rknn_converters.partition.cost_profile import OperatorCost, TransferCost
from ort_rknn_converters.util.plain_data import parse_json

__all__ = ["GROUP", "cost_attempts", "costs_in"]

GROUP = "cost"
WARM_UP = 3
"""Inferences before the measured ones: the first pays for the start (24 ms against 4 where it was seen)."""

COPIES = (16 << 10, 256 << 10, 4 << 20)
"""Bytes of the copies into and out of memory that is shared with the NPU."""

Array = NDArray[Any]


def cost_attempts(device: NpuDevice, target: str, *, runs: int) -> Iterator[Attempt]:
    """Everything that is to be measured.

    Args:
        device: The NPU.
        target: SoC, which chooses the compiled models.
        runs: Inferences a model.

    Raises:
        FileNotFoundError: No models are compiled for this SoC.
    """
    opened: list[SegmentCode] = []
    for model, dtype, rknn in read_all(target):
        code = _segment(model, dtype, rknn, target)
        opened.append(code)
        name = f"{model.kind}: {model.shape}, {dtype}"
        yield Attempt(GROUP, (name,), partial(_measure, device, model, dtype, code, name, runs))
    for size in COPIES:
        name = f"shared memory, {size} bytes"
        yield Attempt(GROUP, (name,), partial(_copies, device, opened[0], size, name, runs))


def costs_in(trials: Iterable[Trial]) -> tuple[tuple[OperatorCost, ...], tuple[TransferCost, ...]]:
    """Costs that trials of this module have measured."""
    rows = [parse_json(trial.details) for trial in trials if trial.group == GROUP and trial.ok is None]
    return (
        tuple(OperatorCost(**one) for row in rows for one in row["operators"]),
        tuple(TransferCost(**one) for row in rows for one in row["transfers"]),
    )


def _segment(model: CostModel, dtype: str, rknn: bytes, target: str) -> SegmentCode:
    source = model.source()
    (output,) = source.graph.output
    made = tuple(dim.dim_value for dim in output.type.tensor_type.shape.dim)
    kind = np.dtype(np.float32)
    inputs, outputs = (TensorSpec("x", kind, model.input),), (TensorSpec("y", kind, made),)
    return SegmentCode(
        f"{model.name}-{dtype}", inputs, outputs, target, dtype, BytesBlob(rknn), BytesBlob(source.SerializeToString())
    )


def _measure(device: NpuDevice, model: CostModel, dtype: str, code: SegmentCode, name: str, runs: int) -> list[Trial]:
    feed = model.feed()
    try:
        context = device.open(code, 0b1)
        try:
            phases = [_phases(context, feed) for _ in range(WARM_UP + runs)][WARM_UP:]
        finally:
            context.close()
    except DeviceError as error:
        return [Trial(GROUP, name, False, f"{type(error).__name__}: {error}".partition("\n")[0])]
    set_ms, run_ms, get_ms = (statistics.median(1000 * one[phase] for one in phases) for phase in range(3))
    size = 2 if dtype == "fp16" else 1
    floats = [np.prod(spec.shape, dtype=np.int64) for spec in (*code.inputs, *code.outputs)]
    weights = sum(array.size for array in model.constants.values() if array.dtype == np.float32)
    stored = int(sum(floats) + weights) * size
    cost = OperatorCost(model.kind, dtype, model.shape, model.macs, stored, len(model.nodes), run_ms, runs)
    transfers = [
        TransferCost("inputs_set", "float32", int(floats[0]) * 4, set_ms, runs),
        TransferCost("outputs_get", "float32", int(floats[1]) * 4, get_ms, runs),
    ]
    return [_measured(name, f"{run_ms:.3f} ms", [cost], transfers, run_ms)]


def _phases(context: Any, feed: Array) -> tuple[float, float, float]:
    context.run([feed])
    assert context.phases is not None
    found: tuple[float, float, float] = context.phases
    return found


def _measured(
    name: str, said: str, operators: list[OperatorCost], transfers: list[TransferCost], ms: float | None
) -> Trial:
    content = {"operators": [asdict(one) for one in operators], "transfers": [asdict(one) for one in transfers]}
    return Trial(GROUP, name, None, said, median_ms=ms, details=json.dumps(content))


def _copies(device: NpuDevice, code: SegmentCode, size: int, name: str, runs: int) -> list[Trial]:
    """The CPU's copies into and out of shared memory."""
    try:
        context = device.open(code, 0b1)
        try:
            memory = context.allocate(size)
            if memory is None:
                raise DeviceError("no memory could be allocated: the context is busy")
            shared = memory.view(np.dtype(np.float32), (size // 4,))
            own = np.zeros(size // 4, np.float32)
            into, out = ([_timed(np.copyto, *pair) for _ in range(runs)] for pair in ((shared, own), (own, shared)))
            del shared, memory
        finally:
            context.close()
    except DeviceError as error:
        return [Trial(GROUP, name, False, f"{type(error).__name__}: {error}".partition("\n")[0])]
    ways = (("zero_copy_in", into), ("zero_copy_out", out))
    costs = [TransferCost(way, "float32", size, statistics.median(times), runs) for way, times in ways]
    said = ", ".join(f"{cost.way} {cost.ms:.3f} ms" for cost in costs)
    return [_measured(name, said, [], costs, None)]


def _timed(copy: Any, target: Array, source: Array) -> float:
    begun = time.perf_counter()
    copy(target, source)
    return 1000 * (time.perf_counter() - begun)
