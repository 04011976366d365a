"""Finds where an error begins: each node on the NPU path alone on exact inputs, and with everything before it.

The numbers come from our own cut-outs, run on the flow's device, with the vendor's accuracy analysis beside them; what
is exact comes from CPU onnxruntime on the whole prepared model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn.devices.base import Device
from ort_rknn.errors import DeviceError, DeviceUnavailable
from ort_rknn_conformance.case import Case, CaseError, Settings
from ort_rknn_conformance.diagnose.probe import ProbeSession
from ort_rknn_conformance.diagnose.vendor_analysis import VendorError, vendor_errors
from ort_rknn_conformance.flows import Flow
from ort_rknn_conformance.result import GraphNode, LayerError
from ort_rknn_converters.errors import ConvertError
from ort_rknn_converters.numerics.tensor_error import TensorError, compare
from ort_rknn_converters.numerics.tolerance import tolerance
from ort_rknn_converters.onnx_file.tensor_types import FP16_MAX
from ort_rknn_converters.partition.plan import NPU
from ort_rknn_converters.util.frozen import frozen, replace

__all__ = ["Layers", "find_layers"]

FEEDS = 2  # samples that are looked at layer by layer: an error that shows shows soon (a guess)
CALIBRATION = 16  # samples when the parts are quantized, which needs more of them (a guess)
SUSPECTS = 8  # nodes tried alone where each trial compiles: 2 s each (measured)
FURTHEST = 2  # of them the furthest off with all before, whatever made them so: a reader looks for these (a guess)
_COMPILING = frozenset({"toolkit", "npu", "lite"})
_SOFTMAX = frozenset({"Softmax", "LogSoftmax"})


@frozen
class Layers:
    """Facts found about the machine.

    Attributes:
        rows: The nodes on the NPU path, worst first.
        groups: Sets of nodes to try on the CPU, most suspicious first; where a tensor is beyond fp16, its maker comes
            with all that read it, because it cannot enter the NPU either.
        vendor_missing: Why the vendor's analysis is not beside our own numbers; empty when it is.
    """

    rows: tuple[LayerError, ...]
    groups: tuple[frozenset[str], ...]
    vendor_missing: str = ""


def find_layers(
    case: Case, flow: Flow, settings: Settings, placed: Sequence[GraphNode], *, vendor: bool = False
) -> Layers:
    """Measure every node that runs on the NPU path.

    Args:
        case: The model and its samples; the first few are used.
        flow: What runs the NPU part.
        settings: SoC and precision.
        placed: Where the nodes run.
        vendor: Ask for the vendor's accuracy analysis too, which compiles each segment once more.

    Raises:
        CaseError: The device cannot be had, or the model cannot be prepared again.
    """
    model = case.model if case.reference is None else case.reference
    nodes = [node.name for node in placed if node.place == NPU]
    if not nodes:
        return Layers((), ())
    device = _device(flow, settings)
    try:
        precision = "int8" if settings.precision == "mixed" else settings.precision  # which layers would it cost?
        bench = ProbeSession(model, case.shapes, device, settings.target, precision)
        missing = [name for name in nodes if name not in bench.names]
        if missing:
            raise CaseError(f"the model prepared again has no node {missing[0]}: convert it again")
        bench.watch(nodes)
        # What is quantized is calibrated on these, too.
        exact = [bench.exact(feed) for feed in case.feeds[: FEEDS if settings.precision == "fp16" else CALIBRATION]]
        entire: dict[str, TensorError] = {}
        segments = [
            [node.name for node in placed if node.segment == segment]
            for segment in dict.fromkeys(node.segment for node in placed if node.place == NPU)
        ]
        for inside in segments:
            entire |= _measure(bench, inside, exact)
        alone = {name: _worst(_measure(bench, [name], exact), bench, name) for name in _suspects(bench, nodes, entire)}
        said, silent = vendor_errors(bench, segments, exact) if vendor else ({}, "")
    except ConvertError as error:
        raise CaseError(str(error)) from error
    finally:
        device.close()
    ops = {node.name: node.op_type for node in placed}
    rows = [_row(bench, name, ops[name], entire, alone.get(name), exact, settings) for name in nodes]
    rows = [_beside(row, bench, said) for row in rows]
    rows.sort(key=_badness, reverse=True)
    return Layers(tuple(rows), tuple(_groups(bench, rows, set(nodes))), silent)


def _beside(row: LayerError, bench: ProbeSession, said: Mapping[str, VendorError]) -> LayerError:
    """A row with the vendor's numbers, the worst of its outputs."""
    pairs = [said[tensor] for tensor in bench.outputs_of(row.node) if tensor in said]
    if not pairs:
        return row
    return replace(row, vendor_own=max(own for own, _ in pairs), vendor_entire=max(whole for _, whole in pairs))


def _device(flow: Flow, settings: Settings) -> Device:
    from ort_rknn.opening.choose_device import DeviceOptions, choose

    choice = choose(flow.wish(settings.target), DeviceOptions(target=settings.target))
    if choice.device is None:
        raise CaseError(f"no layers without a device: {choice.reason}")
    return choice.device


def _measure(
    bench: ProbeSession, nodes: Sequence[str], exact: Iterable[Mapping[str, NDArray[Any]]]
) -> dict[str, TensorError]:
    """The error of each floating tensor that these nodes make, worst over the samples; none if they do not run."""
    found: dict[str, TensorError] = {}
    try:
        probe = bench.probe(nodes)
    except (ConvertError, DeviceError):
        return found
    try:
        for tensors in exact:
            for name, array in probe.run(tensors).items():
                want = tensors[name]
                if want.dtype.kind in "fV":
                    error = compare(want, array)
                    if name not in found or _size(error) > _size(found[name]):
                        found[name] = error
    except DeviceUnavailable as error:
        raise CaseError(str(error)) from error
    except DeviceError:
        return {}
    finally:
        probe.close()
    return found


def _suspects(bench: ProbeSession, nodes: Sequence[str], entire: Mapping[str, TensorError]) -> list[str]:
    """All nodes, or where each trial is dear, those where the error grows most."""
    if bench.device.name not in _COMPILING and bench.precision == "fp16":
        return list(nodes)

    def growth(name: str) -> float:
        before = [
            _size(entire[tensor])
            for giver in bench.givers(name)
            for tensor in bench.outputs_of(giver)
            if tensor in entire
        ]
        own = max((_size(entire[tensor]) for tensor in bench.outputs_of(name) if tensor in entire), default=0.0)
        return 0.0 if math.isinf(max(before, default=0.0)) else own / max([*before, 1e-4])

    def whole(name: str) -> float:
        return max((_size(entire[tensor]) for tensor in bench.outputs_of(name) if tensor in entire), default=0.0)

    by_growth, by_size = (sorted(nodes, key=key, reverse=True) for key in (growth, whole))
    return list(dict.fromkeys([*by_growth[: SUSPECTS - FURTHEST], *by_size[:FURTHEST], *by_growth]))[:SUSPECTS]


def _worst(errors: Mapping[str, TensorError], bench: ProbeSession, node: str) -> TensorError | None:
    return max((errors[name] for name in bench.outputs_of(node) if name in errors), key=_size, default=None)


def _size(error: TensorError) -> float:
    return math.inf if error.nan_mismatch or not error.shape_ok else error.rel_rms


def _row(
    bench: ProbeSession,
    name: str,
    op_type: str,
    entire: Mapping[str, TensorError],
    alone: TensorError | None,
    exact: Sequence[Mapping[str, NDArray[Any]]],
    settings: Settings,
) -> LayerError:
    tensors = bench.outputs_of(name)
    measured = [tensor for tensor in tensors if tensor in entire]
    tensor = max(measured, key=lambda one: _size(entire[one]), default=tensors[0] if tensors else "")
    peak = max((_peak(values[one]) for values in exact for one in tensors), default=0.0)
    row = LayerError(
        node=name,
        op_type=op_type,
        tensor=tensor,
        own=None if alone is None else _size(alone),
        entire=_size(entire[tensor]) if tensor in entire else math.nan,
        peak=peak,
        nan_mismatch=alone.nan_mismatch if alone is not None else 0,
    )
    return replace(row, advice=_advice(row, settings))


def _peak(array: NDArray[Any]) -> float:
    """The largest magnitude; NaN counts as infinite."""
    if not array.size:
        return 0.0
    top = float(np.max(np.abs(array.astype(np.float64))))
    return math.inf if math.isnan(top) else top


def _advice(row: LayerError, settings: Settings) -> str:
    keep = f"keep it on the CPU: --cpu-node {row.node}"
    if row.peak > FP16_MAX:
        return f"reaches {row.peak:.3g}, fp16 ends at {FP16_MAX:.0f}; {keep}, and what reads it"
    if row.nan_mismatch:
        return f"gives NaN or infinity in {row.nan_mismatch} places where CPU onnxruntime does not; {keep}"
    limit = tolerance(settings.precision, row.op_type in _SOFTMAX) if settings.tolerance is None else settings.tolerance
    if row.own is not None and not row.own <= limit:
        return f"is off by {row.own:.2g} by itself (tolerance {limit:g}); {keep}"
    return ""


def _badness(row: LayerError) -> tuple[bool, bool, float, float]:
    """Order of the rows: advised ones, those measured alone, the others by what they are off with all before."""
    entire = -1.0 if math.isnan(row.entire) else row.entire
    return bool(row.advice), row.own is not None, -1.0 if row.own is None else row.own, entire


def _groups(bench: ProbeSession, rows: Sequence[LayerError], on_npu: set[str]) -> Iterable[frozenset[str]]:
    seen = set()
    for row in rows:
        names = {row.node}
        if row.peak > FP16_MAX:
            names |= set(bench.readers(row.node)) & on_npu
        group = frozenset(names)
        if group not in seen:
            seen.add(group)
            yield group
