"""One output of all samples, CPU onnxruntime's against ours, as an :class:`~ort_rknn_conformance.result.OutputResult`.

The numbers themselves come from :func:`ort_rknn_converters.numerics.tolerance.compare`, the same code that verifies a
conversion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn_conformance.result import HISTOGRAM_EDGES, GroupResult, OutputResult, WorstElement
from ort_rknn_converters.numerics.tensor_error import compare as tensor_errors
from ort_rknn_converters.numerics.tolerance import group_tolerance
from ort_rknn_converters.numerics.value_groups import find_groups
from ort_rknn_converters.util.frozen import frozen, replace

__all__ = ["Tolerance", "compare_output"]

FLOAT32 = 2.0**-23  # of an output's largest value: sums that should be 0 are off by that much in float32 itself
WORST = 3  # elements shown per output; more do not help a reader (a guess)


@frozen
class Tolerance:
    """Largest error that an output may have.

    Attributes:
        rel_rms: Largest relative RMS of a floating-point output; 0 = must be equal.
        source: Where the number comes from, for the report.
        step: Difference that says nothing between numbers from 0 to 1, of groups of smaller values.
    """

    rel_rms: float
    source: str
    step: float = 2.0**-20


EXACT = Tolerance(0.0, "exact: not a floating-point output")


def compare_output(name: str, expected: Sequence[Any], actual: Sequence[Any], tolerance: Tolerance) -> OutputResult:
    """Compare one output.

    Args:
        name: The output's name.
        expected: CPU onnxruntime's value per sample: arrays, or lists and maps of them.
        actual: Ours, as many.
        tolerance: Used for floating-point outputs; all others must be equal.
    """
    pairs = [
        (sample, want, got)
        for sample, (left, right) in enumerate(zip(expected, actual, strict=True))
        for want, got in _aligned(left, right)
    ]
    first = pairs[0][1] if pairs else np.zeros(0, np.float32)
    for _, want, got in pairs:
        wrong = _form_error(want, got)
        if wrong:
            return _refused(name, first, tolerance, wrong)

    floating = _is_floating(first)
    tolerance = tolerance if floating else EXACT
    if first.dtype == object or first.dtype.kind in "US":
        return _compare_equality(name, first, pairs)

    want = np.concatenate([_numeric(pair[1]).ravel() for pair in pairs]) if pairs else first
    got = np.concatenate([_numeric(pair[2]).ravel() for pair in pairs]) if pairs else first
    errors = tensor_errors(want, got)
    if want.size and errors.nan_mismatch == want.size:  # no two numbers to compare
        none = math.nan
        errors = replace(errors, max_abs=none, mean_abs=none, max_rel=none, mean_rel=none)
        errors = replace(errors, rel_rms=none, cosine=none, sqnr_db=none)
    groups = tuple(_groups(pairs, tolerance)) if floating else ()
    off = [group for group in groups if not group.ok]
    why = ""
    if errors.nan_mismatch:
        why = f"NaN or infinity in different places ({errors.nan_mismatch} elements)"
    elif floating and not errors.rel_rms <= tolerance.rel_rms:
        why = f"relative RMS {errors.rel_rms:.2g} is above {tolerance.rel_rms:.2g}"
    elif off:
        worst = max(off, key=lambda group: group.rel_rms / group.tolerance if group.tolerance else group.rel_rms)
        why = (
            f"{worst.indices} of axis {worst.axis} (values up to {worst.peak:.3g}): relative RMS {worst.rel_rms:.2g} is"
            f" above {worst.tolerance:.2g}"
        )
    elif not floating and (different := np.count_nonzero(want != got)):
        why = f"{different} of {want.size} elements differ"
    return OutputResult(
        name=name,
        dtype=str(first.dtype),
        shape=tuple(first.shape),
        max_abs=errors.max_abs,
        mean_abs=errors.mean_abs,
        max_rel=errors.max_rel,
        rel_rms=errors.rel_rms,
        sqnr_db=errors.sqnr_db,
        cosine=errors.cosine,
        nan_mismatch=int(errors.nan_mismatch),
        top1=_top(pairs, 1) if floating else None,
        tolerance=tolerance.rel_rms,
        tolerance_source=tolerance.source,
        ok=not why,
        why=why,
        worst=tuple(_worst(pairs)),
        mean_rel=errors.mean_rel,
        top5=_top(pairs, 5) if floating else None,
        histogram=_histogram(want, got),
        groups=groups,
    )


def _groups(pairs: Sequence[tuple[int, NDArray[Any], NDArray[Any]]], tolerance: Tolerance) -> Iterator[GroupResult]:
    """The channels or columns of other sizes, each judged by itself."""
    expected, actual = [want for _, want, _ in pairs], [got for _, _, got in pairs]
    groups = find_groups(expected)
    noise = FLOAT32 * max((_peak(group.of(expected)) for group in groups), default=0.0)
    for group in groups:
        want, got = group.of(expected), group.of(actual)
        errors = tensor_errors(want, got)
        limit = tolerance.rel_rms if group.largest else group_tolerance(tolerance.rel_rms)
        sizes, peak = want[np.isfinite(_wide(want))], _peak(want)
        ok, note = errors.rel_rms <= limit or errors.max_abs <= noise, ""
        if not group.largest and sizes.size and sizes.min() >= 0 and peak <= 1 and errors.max_abs <= tolerance.step:
            ok = True
            if peak <= tolerance.step:
                note = f"all below {tolerance.step:.1g}: data with something to find (--data) would say more"
            elif errors.rel_rms > limit:
                note = f"off by no more than one step of {tolerance.step:.1g}"
        yield GroupResult(
            group.axis, group.name, len(group.indices), peak, errors.max_abs, errors.rel_rms, limit, ok, note
        )


def _peak(array: NDArray[Any]) -> float:
    sizes = np.abs(_wide(array))
    return float(sizes.max(where=np.isfinite(sizes), initial=0.0))


def _aligned(want: Any, got: Any) -> Iterator[tuple[NDArray[Any], Any]]:
    """The arrays inside two values side by side; ``None`` on the right where there is no partner."""
    if isinstance(want, (list, tuple)):
        partners = list(got) if isinstance(got, (list, tuple)) else []
        if len(partners) > len(want):
            yield np.asarray(len(want)), np.asarray(len(partners))
        for number, item in enumerate(want):
            yield from _aligned(item, partners[number] if number < len(partners) else None)
    elif isinstance(want, dict):
        keys = sorted(want, key=str)
        for key in keys:
            yield from _aligned(want[key], got.get(key) if isinstance(got, dict) else None)
    else:
        yield np.asarray(want), None if got is None else np.asarray(got)


def _form_error(want: NDArray[Any], got: NDArray[Any] | None) -> str:
    """Says what is wrong with the form of ``got``."""
    if got is None:
        return "missing"
    if want.dtype != got.dtype:
        return f"dtype {got.dtype} instead of {want.dtype}"
    if want.shape != got.shape:
        return f"shape {got.shape} instead of {want.shape}"
    return ""


def _is_floating(array: NDArray[Any]) -> bool:
    # bfloat16 and the 8-bit floats are not numpy's own: their kind is "V", and they convert to float32.
    return array.dtype.kind in "fcV"


def _numeric(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "V":
        return array.astype(np.float32)
    return array.astype(np.int8) if array.dtype == np.bool_ else array


def _difference(want: NDArray[Any], got: NDArray[Any]) -> NDArray[np.float64]:
    """Absolute difference; equal non-finite values count as 0, unequal ones as infinite."""
    left, right = _wide(want), _wide(got)
    with np.errstate(invalid="ignore"):
        difference = np.abs(left - right).astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    return np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    array = _numeric(array)
    return array if array.dtype.kind == "c" else array.astype(np.float64)


def _worst(pairs: Sequence[tuple[int, NDArray[Any], NDArray[Any]]]) -> Iterator[WorstElement]:
    found: list[tuple[float, WorstElement]] = []
    for sample, want, got in pairs:
        difference = _difference(want, got)
        flat = difference.ravel()
        take = min(WORST, flat.size)
        for position in np.argpartition(-flat, take - 1)[:take] if take else ():
            if flat[position] > 0:
                index = tuple(int(i) for i in np.unravel_index(position, difference.shape))
                element = WorstElement(sample, index, _scalar(want[index]), _scalar(got[index]))
                found.append((float(flat[position]), element))
    found.sort(key=lambda item: -item[0])
    for _, element in found[:WORST]:
        yield element


def _scalar(value: Any) -> float | str:
    if isinstance(value, np.complexfloating):
        return str(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if np.isfinite(number) else str(number)


def _top(pairs: Sequence[tuple[int, NDArray[Any], NDArray[Any]]], k: int) -> float | None:
    """Share of rows along the last axis whose largest element is among our ``k`` largest.

    ``None`` where a row has too few elements for that to say anything.
    """
    rows = hits = 0
    for _, want, got in pairs:
        if want.dtype.kind == "c" or want.ndim == 0 or want.shape[-1] < 2 * k or not want.size:
            return None
        best = np.argmax(_wide(want), axis=-1)[..., None]
        ours = _wide(got)
        if k == 1:
            found = np.argmax(ours, axis=-1)[..., None] == best
        else:
            # NaN sorts last, that is as the largest: it must not count as a hit.
            found = np.argpartition(np.nan_to_num(-ours, nan=np.inf), k - 1, axis=-1)[..., :k] == best
        rows += best.size
        hits += int(np.count_nonzero(found))
    return hits / rows if rows else None


def _histogram(want: NDArray[Any], got: NDArray[Any]) -> tuple[int, ...]:
    """Numbers of elements by difference, see :class:`~ort_rknn_conformance.result.OutputResult`."""
    if not want.size:
        return ()
    difference = _difference(want, got)
    size = np.abs(_wide(want)).astype(np.float64)
    size = size[np.isfinite(size)]
    top = float(size.max()) if size.size else 0.0
    unit = top * float(np.sqrt(np.mean((size / top) ** 2))) if top else 1.0
    changed = difference[difference > 0] / unit
    bins = np.bincount(np.searchsorted(HISTOGRAM_EDGES, changed, side="right"), minlength=len(HISTOGRAM_EDGES) + 1)
    return (int(want.size - changed.size), *(int(count) for count in bins))


def _compare_equality(
    name: str, first: NDArray[Any], pairs: Sequence[tuple[int, NDArray[Any], NDArray[Any]]]
) -> OutputResult:
    """Strings: equal or not."""
    different = [
        WorstElement(sample, tuple(int(i) for i in index), str(want[index]), str(got[index]))
        for sample, want, got in pairs
        for index in np.ndindex(want.shape)
        if want[index] != got[index]
    ]
    why = f"{len(different)} elements differ" if different else ""
    return _plain_result(name, first, EXACT, why, tuple(different[:WORST]), equal=not different)


def _refused(name: str, first: NDArray[Any], tolerance: Tolerance, why: str) -> OutputResult:
    """An output whose form is wrong: there are no numbers to compare."""
    return _plain_result(name, first, tolerance, why, (), equal=False)


def _plain_result(
    name: str,
    first: NDArray[Any],
    tolerance: Tolerance,
    why: str,
    worst: tuple[WorstElement, ...],
    *,
    equal: bool,
) -> OutputResult:
    """A result without arithmetic: everything equal, or nothing comparable."""
    off = 0.0 if equal else float("nan")
    return OutputResult(
        name=name,
        dtype=str(first.dtype),
        shape=tuple(first.shape),
        max_abs=off,
        mean_abs=off,
        max_rel=off,
        mean_rel=off,
        rel_rms=off,
        sqnr_db=float("inf") if equal else float("nan"),
        cosine=1.0 if equal else float("nan"),
        nan_mismatch=0,
        top1=None,
        tolerance=tolerance.rel_rms,
        tolerance_source=tolerance.source,
        ok=equal,
        why=why,
        worst=worst,
    )
