"""One case on one flow, in this process: CPU onnxruntime, then our session, then the comparison."""

from __future__ import annotations

import difflib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from ort_rknn.api.session import InferenceSession
from ort_rknn.errors import InvalidOption
from ort_rknn_conformance.case import Case, CaseError, Settings, one_line
from ort_rknn_conformance.flows import Flow
from ort_rknn_conformance.result import CaseResult
from ort_rknn_conformance.run.compare import compare_output
from ort_rknn_conformance.run.placement_graph import count_ops, placed_nodes
from ort_rknn_conformance.run.tolerances import tolerances
from ort_rknn_conformance.sources.labels import accuracy
from ort_rknn_converters.partition.plan import Plan
from ort_rknn_converters.util.foreign_text import shown

__all__ = ["calibrated", "execute"]


def execute(case: Case, flow: Flow, settings: Settings) -> CaseResult:
    """Run a case. Never raises for what the case does: an exception is a result."""
    start = time.perf_counter()
    reference = case.model if case.reference is None else case.reference
    placement: dict[str, Any] = {}
    try:
        proto = _proto(reference)
        placement["ops"] = count_ops(proto)
        expected = _reference(reference, case)
        if settings.stable and not _same(expected, _reference(reference, case)):
            return CaseResult(case.name, "unsupported", "CPU onnxruntime answers differently each time", **placement)
    except Exception as error:
        return CaseResult(case.name, "unsupported", f"CPU onnxruntime: {one_line(error)}", **placement)

    try:
        options = flow.provider_options(settings.target, settings.precision, min_gain=settings.min_gain)
        if case.shapes:
            options["shapes"] = dict(case.shapes)
        if settings.cpu_nodes:
            options["cpu_nodes"] = settings.cpu_nodes
        options["compile"] = "load"  # or the first answers of a model with open shapes would be the CPU's
        if settings.cache_dir is not None:
            options["cache_dir"] = settings.cache_dir
        with ExitStack() as stack:
            options |= settings.options
            with calibrated(case, settings) as calibration:
                uncalibrated = settings.precision != "fp16" and not calibration
                try:
                    session = stack.enter_context(flow.session(case.model, settings.target, options | calibration))
                except InvalidOption:
                    if not uncalibrated:
                        raise
                    # What cannot be calibrated stays on the CPU: its feeds are no arrays, or it has none.
                    session = stack.enter_context(InferenceSession(case.model, providers=["CPUExecutionProvider"]))
            placement |= _placed(session.plan)
            names = [output.name for output in session.get_outputs()]
            actual = [session.run(None, dict(feed)) for feed in case.feeds]
            plan = session.plan  # of a model with open shapes it is known only now
            placement |= _placed(plan)
            if settings.closely:
                placement["graph"] = placed_nodes(reference, plan, case.shapes)
        if unknown := _unknown_nodes(settings, plan, proto):
            return CaseResult(case.name, "unsupported", unknown)
    except InvalidOption as error:  # of the user's: there is nothing to compare
        return CaseResult(case.name, "unsupported", str(error), **placement)
    except Exception as error:
        message = f"{type(error).__name__}: {one_line(error)}"
        return CaseResult(case.name, "error", message, seconds=time.perf_counter() - start, **placement)

    limits = tolerances(proto, flow, settings.precision, on_npu=plan.npu_nodes > 0, override=settings.tolerance)
    outputs = tuple(
        compare_output(name, [row[number] for row in expected], [row[number] for row in actual], limits[name])
        for number, name in enumerate(names)
    )
    if case.labels:
        try:
            placement["accuracy"] = accuracy(expected, actual, case.labels)
        except CaseError as error:
            return CaseResult(case.name, "unsupported", str(error), **placement)
    wrong = [f"{shown(output.name)}: {output.why}" for output in outputs if not output.ok]
    return CaseResult(
        case.name,
        "wrong" if wrong else "right",
        "; ".join(wrong),
        outputs,
        samples=len(case.feeds),
        seconds=time.perf_counter() - start,
        **placement,
    )


def _unknown_nodes(settings: Settings, plan: Plan, proto: onnx.ModelProto) -> str:
    """Says what is wrong with the nodes that the user named; empty when each exists, or did in the model as given."""
    names = {node.name for node in plan.nodes} | {node.name for node in proto.graph.node}
    for name in sorted(settings.cpu_nodes - names):
        near = difflib.get_close_matches(name, sorted(names - {""}), n=3)
        return f"the model has no node {name!r}" + (f"; it has {', '.join(near)}" if near else "")
    return ""


def _placed(plan: Plan) -> dict[str, Any]:
    reasons = Counter(node.reason for node in plan.nodes if node.place == "CPU")
    return {"nodes": len(plan.nodes), "npu_nodes": plan.npu_nodes, "cpu_reasons": dict(reasons)}


def _reference(model: str | bytes, case: Case) -> list[list[Any]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would log is raised as well, or is no error
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [session.run(None, dict(feed)) for feed in case.feeds]


def _proto(model: str | bytes) -> onnx.ModelProto:
    if isinstance(model, bytes):
        return onnx.load_model_from_string(model)
    return onnx.load(model, load_external_data=False)


def _same(left: Any, right: Any) -> bool:
    """Whether two answers are equal, NaN counted equal to NaN."""
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(_same(*pair) for pair in zip(left, right, strict=True))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    first, second = np.asarray(left), np.asarray(right)
    if first.dtype.kind in "fc":
        return bool(np.array_equal(first, second, equal_nan=True))
    return bool(np.array_equal(first, second))


@contextmanager
def calibrated(case: Case, settings: Settings) -> Iterator[dict[str, Any]]:
    """The options that say what a quantized model is calibrated on; none for fp16.

    Args:
        case: Its feeds are written to a folder where the settings name no data.
        settings: Precision, and the user's calibration data if any.
    """
    if settings.calibration is not None:
        yield {"calibration": settings.calibration, "preprocess": settings.preprocess}
        return
    plain = all(isinstance(value, np.ndarray) for feed in case.feeds for value in feed.values())
    if settings.precision == "fp16" or not plain or not all(case.feeds):
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="ort-rknn-calibration-") as folder:
        for number, feed in enumerate(case.feeds):
            np.savez(Path(folder) / f"{number:04}.npz", **feed)
        yield {"calibration": folder}
