"""Finds the channels or columns of a tensor whose values are of another size than the rest, by the data alone.

A detector's output may hold boxes in pixels (up to 640) beside class scores (up to 1). Over the whole tensor the scores
weigh nothing: all of them could be zero at a relative RMS error of 0.008. So each group is measured by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn_converters.numerics.tensor_error import is_float
from ort_rknn_converters.util.frozen import frozen

__all__ = ["ValueGroup", "find_groups"]

Array = NDArray[Any]

APART = 16.0
"""Ratio of the RMS of neighbours in size from which they are of different kinds. A guess: boxes in pixels and scores
are hundreds apart, sides and centres of boxes less than ten."""

LONGEST = 4096
"""Most indices of an axis that are channels or columns: a longer one is of places or anchors. A guess."""

MOST = 8
"""Groups at most, of the widest gaps: a table of more is not read. A guess."""


@frozen
class ValueGroup:
    """Channels or columns of similar size.

    Attributes:
        axis: Of the tensor.
        indices: Along that axis, ascending.
        largest: Whether no other group of the tensor is of larger values.
    """

    axis: int
    indices: tuple[int, ...]
    largest: bool

    @property
    def name(self) -> str:
        """The indices in short: ``4-83``, ``2,5,8``."""
        return ",".join(_runs(self.indices))

    def of(self, tensors: Iterable[Array]) -> Array:
        """The group's elements of all samples in one row."""
        return np.concatenate([np.take(one, self.indices, axis=self.axis).reshape(-1) for one in tensors])


def find_groups(expected: Sequence[Array]) -> tuple[ValueGroup, ...]:
    """Returns the groups of the samples of a tensor, of the smallest values first; none where all are of one size.

    Indices whose elements are all zero belong to the group of the smallest values.

    Args:
        expected: One array for each sample, as the reference has them.
    """
    if not expected or not all(is_float(one.dtype) and one.ndim == expected[0].ndim for one in expected):
        return ()
    found: tuple[float, tuple[ValueGroup, ...]] = (0.0, ())
    for axis in range(expected[0].ndim):
        sizes = {one.shape[axis] for one in expected}
        if len(sizes) == 1 and 2 <= min(sizes) <= LONGEST:
            found = max(found, _along(expected, axis), key=lambda one: one[0])
    return found[1]


def _along(expected: Sequence[Array], axis: int) -> tuple[float, tuple[ValueGroup, ...]]:
    """The widest gap along an axis, as a ratio, and the groups that gaps leave; 0 and none without a gap."""
    sizes = _rms(expected, axis)
    order = np.argsort(sizes, kind="stable")
    zeros = int(np.count_nonzero(sizes == 0))
    nonzero = sizes[order[zeros:]]
    if nonzero.size < 2:
        return 0.0, ()
    ratios = nonzero[1:] / nonzero[:-1]
    wide = [int(at) for at in np.argsort(-ratios, kind="stable")[: MOST - 1] if ratios[at] >= APART]
    if not wide:
        return 0.0, ()
    edges = [0, *sorted(zeros + at + 1 for at in wide), len(order)]
    groups = tuple(
        ValueGroup(axis, tuple(sorted(int(index) for index in order[start:end])), end == len(order))
        for start, end in pairwise(edges)
    )
    return float(ratios.max()), groups


def _rms(expected: Sequence[Array], axis: int) -> NDArray[np.float64]:
    """RMS of the finite elements at each index of an axis."""
    squares = np.zeros(expected[0].shape[axis])
    counts = np.zeros(expected[0].shape[axis])
    for one in expected:
        wide = (one.astype(np.float32) if one.dtype.kind == "V" else one).astype(np.float64)
        finite = np.isfinite(wide)
        others = tuple(other for other in range(wide.ndim) if other != axis)
        with np.errstate(over="ignore"):
            squares += np.sum(np.where(finite, wide, 0.0) ** 2, axis=others)
        counts += np.count_nonzero(finite, axis=others)
    result: NDArray[np.float64] = np.sqrt(squares / np.maximum(counts, 1))
    return np.where(np.isfinite(result), result, np.finfo(np.float64).max)


def _runs(indices: Sequence[int]) -> list[str]:
    """Ascending numbers as ``first-last`` where they follow each other; the end of a long list is cut."""
    texts: list[str] = []
    start = 0
    for end in range(1, len(indices) + 1):
        if end == len(indices) or indices[end] != indices[end - 1] + 1:
            first, last = indices[start], indices[end - 1]
            texts.append(str(first) if first == last else f"{first}-{last}")
            start = end
    return texts if len(texts) <= MOST else [*texts[:MOST], "..."]
