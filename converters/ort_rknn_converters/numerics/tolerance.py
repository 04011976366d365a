"""Proof that a compiled segment computes what ONNX Runtime computes: reference, comparison, tolerance.

The compiler is known to drop nodes and to mistranslate silently, so nothing it made is used before its simulator agreed
with ONNX Runtime on the same feeds, name by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ort_rknn_converters.numerics.reference_run import run_measured
from ort_rknn_converters.numerics.tensor_error import TensorError, compare, is_float, tolerance
from ort_rknn_converters.onnx_file.tensor_types import bodies
from ort_rknn_converters.util.foreign_text import shown
from ort_rknn_converters.util.frozen import frozen

__all__ = [
    "Reference",
    "Verification",
    "group_tolerance",
    "probability_step",
    "reference",
    "softmax_outputs",
    "tolerance",
    "verify_answers",
]

Array = NDArray[Any]

_INT8_DIFFERENT = 0.1  # share of whole numbers that may be others: a guess, generous as the tolerance of floats
_GROUP_FACTOR, _GROUP_MOST = 5.0, 0.5
_STEPS = {"fp16": 2.0**-10, "int8": 1 / 255, "w4a16": 1 / 255}
_DEPTH = 8  # of functions in functions; more does not occur (a guess)


def group_tolerance(limit: float) -> float:
    """Largest relative RMS error of a group of channels or columns of smaller values than the rest of their output.

    Args:
        limit: The output's own tolerance. Five times that is allowed (a guess), as a sigmoid makes a small score's
            error larger than its argument's (at -7, 0.1 % becomes 0.7 %), but at most 0.5: a group that is lost
            altogether is off by 1.
    """
    return max(limit, min(_GROUP_FACTOR * limit, _GROUP_MOST))


def probability_step(precision: str) -> float:
    """Smallest step of a number from 0 to 1 in a precision: fp16's below 1, int8's over that range.

    A group of values from 0 to 1 that is off by no more than this, anywhere, agrees: it says the same.
    """
    return _STEPS.get(precision, 1 / 255)


def softmax_outputs(model: onnx.ModelProto) -> frozenset[str]:
    """The outputs of a graph that a Softmax is on the way to: it amplifies what its inputs are off.

    The one rule for segments (verification) and whole models (conformance): what comes after a Softmax, however far,
    carries its error on. Attention ops have one inside; so may functions and the bodies of control flow.
    """
    inside = {function.name: function.node for function in model.functions}

    def broad(node: onnx.NodeProto, depth: int = 0) -> bool:
        if "softmax" in node.op_type.lower() or "Attention" in node.op_type or node.op_type == "Hardmax":
            return True
        inner = [list(body.node) for body in bodies(node)]
        if depth < _DEPTH and node.op_type in inside:
            inner.append(list(inside[node.op_type]))
        return any(broad(one, depth + 1) for body in inner for one in body)

    behind: set[str] = set()
    for node in model.graph.node:
        captured = (name for body in bodies(node) for one in body.node for name in one.input)
        if any(name in behind for name in (*node.input, *captured)) or broad(node):
            behind.update(name for name in node.output if name)
    return frozenset(value.name for value in model.graph.output if value.name in behind)


@frozen
class Reference:
    """Results of ONNX Runtime for a segment.

    Attributes:
        outputs: Per feed, output name -> array in the dtype ONNX declares.
        peaks: Largest magnitude of every floating tensor inside, over all feeds (infinite if it overflows float32).
        after_softmax: The outputs with a Softmax behind them, see :func:`softmax_outputs`.
    """

    outputs: tuple[Mapping[str, Array], ...]
    peaks: Mapping[str, float]
    after_softmax: frozenset[str]


def reference(model: onnx.ModelProto, feeds: Sequence[Mapping[str, Array]]) -> Reference:
    """Run a segment on ONNX Runtime and measure the range of every floating tensor in it.

    Args:
        model: The segment as cut out: its original dtypes and ranks.
        feeds: Input name -> array, as the model declares them.

    Raises:
        ModelError: ONNX Runtime cannot run it.
    """
    outputs, peaks = run_measured(model, feeds)
    return Reference(tuple(outputs), peaks, softmax_outputs(model))


@frozen
class Verification:
    """Result of the comparison of one compiled segment with ONNX Runtime.

    Attributes:
        problem: What is wrong, in words; empty when it may be used.
        outputs: Names of the outputs that are wrong.
        rel_rms: Worst relative RMS error over floating outputs and feeds; 0 without any.
        max_abs: Largest absolute difference over outputs and feeds.
    """

    problem: str
    outputs: tuple[str, ...]
    rel_rms: float
    max_abs: float


def verify_answers(
    expected: Reference, actual: Sequence[Mapping[str, Array]], *, precision: str, precise: float | None = None
) -> Verification:
    """Judge the simulator's answers.

    Floating outputs must agree within the tolerance, with NaN and infinities at the same places; all others must be
    equal, or mostly so where int8 values decide between them (the positions that ArgMax gives).

    Args:
        expected: From :func:`reference`.
        actual: Per feed, output name -> the simulator's answer (floating ones as float32 whatever ONNX declares).
        precision: ``fp16`` ...
        precise: Tolerance instead of :func:`tolerance`'s.
    """
    wrong: dict[str, str] = {}
    worst, largest = 0.0, 0.0
    if len(actual) != len(expected.outputs):
        return Verification(f"{len(actual)} answers to {len(expected.outputs)} feeds", (), 0.0, 0.0)
    for wanted, answer in zip(expected.outputs, actual, strict=True):
        for name, want in wanted.items():
            got = answer.get(name)
            if got is None:
                wrong.setdefault(name, "is missing")
                continue
            error = compare(want, got)
            floating = is_float(want.dtype)
            limit = tolerance(precision, name in expected.after_softmax) if precise is None else precise
            largest = max(largest, error.max_abs)
            worst = max(worst, error.rel_rms) if floating else worst
            if not floating and precision != "fp16" and want.shape == got.shape and _mostly_equal(want, got):
                continue
            if problem := _problem(error, want, got, limit if floating else 0.0):
                wrong.setdefault(name, problem)
    problem = "; ".join(f"{shown(name)} {what}" for name, what in wrong.items())
    return Verification(problem, tuple(wrong), worst, largest)


def _mostly_equal(want: Array, got: Array) -> bool:
    return want.dtype == got.dtype and np.mean(want != got) <= _INT8_DIFFERENT


def _problem(error: TensorError, want: Array, got: Array, limit: float) -> str:
    if not error.shape_ok:
        return f"has shape {list(got.shape)} instead of {list(want.shape)}"
    if not error.dtype_ok:
        return f"has dtype {got.dtype} instead of {want.dtype}"
    if error.nan_mismatch:
        return f"has NaN or infinity in {error.nan_mismatch} other places than ONNX Runtime"
    if limit == 0 and error.max_abs > 0:
        return f"differs (largest difference {error.max_abs:g}) though it must be equal"
    if not error.rel_rms <= limit:
        return f"is off by a relative RMS of {error.rel_rms:.2g} (limit {limit:.2g})"
    return ""
