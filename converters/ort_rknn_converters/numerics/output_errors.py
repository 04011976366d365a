"""Measures the error of a whole compiled model: per output on ordinary inputs, in words on small ones and on zeros."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn_converters.errors import WrongNumbers
from ort_rknn_converters.numerics.tensor_error import compare, is_float
from ort_rknn_converters.partition.whole_model import OutputError, WholeModel
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.log import warn_once

__all__ = ["LIMIT", "Off", "off", "percent", "say_numbers", "summary", "usual_sizes"]

LIMIT = 5e-3
"""Relative RMS error of a whole model's output up to which it counts as right: that of one segment without a Softmax
(see :func:`ort_rknn_converters.numerics.tolerance.tolerance`)."""

_NOTHING = 1e-9
"""Share of an output's ordinary size below which a difference on other inputs is float32's own noise. A guess."""


@frozen
class Off:
    """Distance of one output from ONNX Runtime's.

    Attributes:
        size: Relative RMS error of floats, share of the others that differ; infinite for another shape or NaN pattern.
        words: The same for people: ``off by 12 %``, ``has another shape``; empty when equal.
        max_abs: Largest absolute difference.
        floating: Whether the output is of floats.
        noise: RMS of the difference, 0 for others than floats.
    """

    size: float
    words: str
    max_abs: float = 0.0
    floating: bool = True
    noise: float = 0.0

    @property
    def right(self) -> bool:
        """Whether it counts as the same result."""
        return self.size <= (LIMIT if self.floating else 0.0)


def off(
    expected: Sequence[Mapping[str, Any]], actual: Sequence[Mapping[str, Any]], usual: Mapping[str, float] | None = None
) -> dict[str, Off]:
    """Compare all outputs.

    Args:
        expected: Per feed, output name -> array.
        actual: The same of the rounded model.
        usual: RMS of each output on ordinary inputs, where these are others.

    Returns:
        Output name -> the worst over the feeds; outputs that are no tensors of numbers are left out.
    """
    worst: dict[str, Off] = {}
    for wanted, given in zip(expected, actual, strict=True):
        for name, want in wanted.items():
            got = given.get(name)
            if not isinstance(want, np.ndarray) or want.dtype.kind not in "biufV" or not isinstance(got, np.ndarray):
                continue
            found = _one(want, got)
            if (
                usual is not None
                and math.isfinite(found.size)
                and found.floating
                and found.noise <= _NOTHING * usual.get(name, 0.0)
            ):
                found = Off(0.0, "", found.max_abs)
            if name not in worst or found.size > worst[name].size:
                worst[name] = found
    return worst


def _one(want: NDArray[Any], got: NDArray[Any]) -> Off:
    floating = is_float(want.dtype)
    error = compare(want, got)
    if not error.shape_ok:
        return Off(math.inf, f"has shape {list(got.shape)} instead of {list(want.shape)}", math.inf, floating)
    if error.nan_mismatch:
        words = f"has NaN or infinity in {error.nan_mismatch} other places"
        return Off(math.inf, words, error.max_abs, floating)
    if not floating:
        differing = int(np.count_nonzero(want != got))
        words = f"differs in {differing} of {want.size} elements" if differing else ""
        return Off(differing / max(1, want.size), words, error.max_abs, floating)
    noise = error.rel_rms * (_rms(want) or 1.0)
    return Off(error.rel_rms, f"off by {percent(error.rel_rms)}" if error.rel_rms else "", error.max_abs, True, noise)


def usual_sizes(expected: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """RMS of each floating output, the largest over the feeds."""
    found: dict[str, float] = {}
    for outputs in expected:
        for name, value in outputs.items():
            if isinstance(value, np.ndarray) and is_float(value.dtype):
                found[name] = max(found.get(name, 0.0), _rms(value))
    return found


def summary(errors: Mapping[str, Off], notes: Sequence[str] = ()) -> WholeModel:
    """The plan's entry.

    Args:
        errors: Output name -> its error on ordinary inputs.
        notes: What was seen on others.
    """
    outputs = tuple(
        OutputError(
            name,
            one.size if one.floating and math.isfinite(one.size) else None,
            one.max_abs if math.isfinite(one.max_abs) else None,
            "" if one.right else one.words,
        )
        for name, one in errors.items()
    )
    return WholeModel(outputs, tuple(notes))


def say_numbers(whole: WholeModel, *, strict: bool) -> None:
    """Warn of a compiled model whose numbers are off, once a process.

    Args:
        whole: From its plan.
        strict: What is off on ordinary inputs is an error.

    Raises:
        WrongNumbers: It is strict, and something is.
    """
    if strict and whole.problem:
        raise WrongNumbers(
            f"the whole compiled model is not right: {whole.problem} (limit {percent(LIMIT)}, whole numbers must be"
            " equal). Keep more of it on the CPU (cpu_ops, cpu_nodes), or do without strict_numbers"
        )
    if whole.warning:
        warn_once(
            f"the whole compiled model is not right on all inputs: {whole.warning}; print(session.plan) shows more"
        )


def percent(share: float) -> str:
    """A share in words: ``12 %``, ``0.6 %``."""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def _rms(array: NDArray[Any]) -> float:
    wide = array.astype(np.float32 if array.dtype.kind == "V" else np.float64, copy=False)
    finite = wide[np.isfinite(wide)]
    return float(np.sqrt(np.mean(finite.astype(np.float64) ** 2))) if finite.size else 0.0
