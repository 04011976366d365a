"""A segment as onnxruntime's own optimizer leaves it: the second form tried where the compiler fails on ours.

What verifies at once costs nothing; what fails costs one compilation more, and only where the optimizer changes it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx

from ort_rknn_converters.compile.attempt import Attempt, FailureReason
from ort_rknn_converters.compile.segment_compiler import SegmentCompiler
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.bounded_run import QUICK_S, bounded

__all__ = ["folded_by_onnxruntime", "retry_folded"]

_OF_THE_FORM: frozenset[FailureReason] = frozenset({"refused", "crashed", "wrong", "dropped"})
"""Failures that another form of the same computation may not have."""


def retry_folded(compiler: SegmentCompiler, attempt: Attempt) -> Attempt:
    """The attempt, or where it failed the one with onnxruntime's folding, if that holds.

    Args:
        compiler: Where the segment was tried.
        attempt: What came of it.
    """
    failure = attempt.failure
    if failure is None or failure.kind not in _OF_THE_FORM or attempt.model is None:
        return attempt
    folded = folded_by_onnxruntime(attempt.model)
    if folded is None:
        return attempt
    second = compiler.attempt(attempt.nodes, folded)
    if second.failure is not None:
        return attempt
    outputs = ", ".join(value.name for value in second.outputs)
    note = f"the part that makes {outputs} is compiled as onnxruntime's optimizer folds it: else {failure.reason}"
    return replace(second, warnings=(*second.warnings, note))


def folded_by_onnxruntime(segment: onnx.ModelProto) -> onnx.ModelProto | None:
    """Fold constants and fuse what the standard's own operators can say: BatchNormalization into Conv, MatMul and Add.

    Args:
        segment: A standalone model; left as it is.

    Returns:
        The model with the same inputs and outputs, or ``None`` where that changes nothing, or cannot be done.
    """
    options = ort.quiet_options("ORT_ENABLE_BASIC")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        try:
            bounded(lambda _: ort.on_cpu(segment.SerializeToString(), options), QUICK_S, "what is constant")
            folded = onnx.load(path)
        except Exception:  # onnxruntime raises a class of its own per kind of fault; the first form's own is reported
            return None
    return None if _ops(folded) == _ops(segment) else folded


def _ops(model: onnx.ModelProto) -> Counter[tuple[str, str]]:
    return Counter((node.domain, node.op_type) for node in model.graph.node)
