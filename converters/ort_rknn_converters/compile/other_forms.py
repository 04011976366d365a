"""Other forms of a segment, tried where the compiler fails on ours: as onnxruntime's optimizer folds it, or less int8.

What verifies at once costs nothing; what fails costs one compilation more for each form that differs.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx

from ort_rknn_converters.compile.attempt import Attempt, FailureReason
from ort_rknn_converters.compile.segment_compiler import SegmentCompiler
from ort_rknn_converters.lower.own_quantization import around_products, is_quantized
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.bounded_run import QUICK_S, bounded
from ort_rknn_converters.util.frozen import replace

__all__ = ["folded_by_onnxruntime", "retry_other_forms"]

_OF_THE_FORM: frozenset[FailureReason] = frozenset({"refused", "crashed", "wrong", "dropped"})
"""Failures that another form of the same computation may not have."""


def retry_other_forms(compiler: SegmentCompiler, attempt: Attempt) -> Attempt:
    """The attempt, or where it failed the first one with another form that holds.

    Where none holds, what comes of a quantized part in floats: whatever fails there has nothing to do with int8.

    Args:
        compiler: Where the segment was tried.
        attempt: What came of it.
    """
    failure = attempt.failure
    if failure is None or failure.kind not in _OF_THE_FORM or attempt.model is None:
        return attempt
    outputs = ", ".join(value.name for value in attempt.outputs)
    if is_quantized(attempt.model) and not compiler.floats.issuperset(attempt.nodes):
        return _less_int8(compiler, attempt, outputs)
    folded = folded_by_onnxruntime(attempt.model)
    if folded is None:
        return attempt
    second = compiler.attempt(attempt.nodes, folded, "folded")
    if second.failure is not None:
        return attempt
    note = f"the part that makes {outputs} is compiled as onnxruntime's optimizer folds it: else {failure.reason}"
    return replace(second, warnings=(*second.warnings, note))


def _less_int8(compiler: SegmentCompiler, attempt: Attempt, outputs: str) -> Attempt:
    assert attempt.failure is not None
    assert attempt.model is not None
    form = around_products(attempt.model)
    if form is not None and is_quantized(form):
        second = compiler.attempt(attempt.nodes, form, "around products")
        if second.failure is None:
            note = f"the part that makes {outputs} is in int8 around its products only: else {attempt.failure.reason}"
            return replace(second, warnings=(*second.warnings, note))
    compiler.floats.update(attempt.nodes)
    second = compiler.attempt(attempt.nodes)
    if second.failure is None:
        note = f"the part that makes {outputs} computes in fp16, not in the model's int8: else {attempt.failure.reason}"
        return replace(second, warnings=(*second.warnings, note))
    if second.failure.kind != "wrong":
        return second
    # No single node is to blame for how much the model rounds.
    reason = f"{attempt.failure.reason}; and in fp16 instead of the model's int8 {second.failure.reason}"
    return replace(second, failure=replace(second.failure, reason=reason, nodes=attempt.nodes, reasons={}))


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
