"""Measures the distance of a tensor from its reference, in the measures people use, and says how much is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn_converters.util.frozen import frozen

__all__ = ["TensorError", "compare", "is_float", "tolerance"]

Array = NDArray[Any]

_FP16_TOLERANCE = 5e-3
_FP16_SOFTMAX_TOLERANCE = 2e-2
_INT8_TOLERANCE = 0.4


@frozen
class TensorError:
    """Distance of one tensor from its reference. Numbers are over the elements finite in both.

    Attributes:
        max_abs: Largest absolute difference.
        max_rel: Largest difference relative to the expected element's magnitude (elements expected to be 0 are left
            out).
        mean_rel: Mean of the same.
        mean_abs: Mean absolute difference.
        rel_rms: RMS of the difference over RMS of the expected tensor; the RMS of the difference where all expected
            elements are 0.
        cosine: Cosine similarity; 1 when both are all zero.
        sqnr_db: Signal to noise in decibels; infinite when equal.
        nan_mismatch: Elements where one is NaN or an infinity and the other is not the same.
        shape_ok: Whether the shapes agree. When not, all numbers are infinite.
        dtype_ok: Whether the dtypes agree, any two floating ones counting as equal.
    """

    max_abs: float
    max_rel: float
    mean_rel: float
    mean_abs: float
    rel_rms: float
    cosine: float
    sqnr_db: float
    nan_mismatch: int
    shape_ok: bool
    dtype_ok: bool

    def __str__(self) -> str:
        if not self.shape_ok:
            return "wrong shape"
        text = f"rel RMS {self.rel_rms:.2g}, max |error| {self.max_abs:.3g}, cosine {self.cosine:.6f}"
        if self.nan_mismatch:
            text += f", NaN or infinity differs in {self.nan_mismatch} elements"
        return text if self.dtype_ok else text + ", wrong dtype"


_BLOCK = 1 << 14
"""Elements looked at together: their copies in float64 stay in the processor's cache (measured on 700,000 elements:
6 ms instead of 22)."""


def compare(expected: Array, actual: Array) -> TensorError:
    """Compare two tensors; strings and other non-numbers are refused by numpy.

    Args:
        expected: The reference, any numeric dtype and shape.
        actual: What was computed instead.
    """
    expected, actual = np.asarray(expected), np.asarray(actual)
    dtype_ok = expected.dtype == actual.dtype or (is_float(expected.dtype) and is_float(actual.dtype))
    if expected.shape != actual.shape:
        inf = float("inf")
        return TensorError(inf, inf, inf, inf, inf, 0.0, -inf, 0, False, dtype_ok)
    want, got = expected.reshape(-1), actual.reshape(-1)
    starts = range(0, want.size, _BLOCK)
    blocks = [_Block.of(_wide(want[at : at + _BLOCK]), _wide(got[at : at + _BLOCK])) for at in starts]
    nan_mismatch = sum(block.nan_mismatch for block in blocks)
    blocks = [block for block in blocks if block.count]
    if not blocks:
        return TensorError(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, float("inf"), nan_mismatch, True, dtype_ok)
    count, nonzero = (sum(getattr(block, name) for block in blocks) for name in ("count", "nonzero"))
    noise, signal, strength = (
        _rms(np.array([getattr(block, name) for block in blocks]), [block.count for block in blocks])
        for name in ("noise", "signal", "strength")
    )
    rel_rms = noise / signal if signal else noise
    if signal and strength:
        cosine = sum(b.cosine * (b.signal / signal) * (b.strength / strength) * b.count for b in blocks) / count
    else:
        cosine = float(noise == 0)
    return TensorError(
        max_abs=max(block.max_abs for block in blocks),
        max_rel=max(block.max_rel for block in blocks),
        mean_rel=sum(block.mean_rel * (block.nonzero / nonzero) for block in blocks) if nonzero else 0.0,
        mean_abs=sum(block.mean_abs * (block.count / count) for block in blocks),
        rel_rms=rel_rms,
        cosine=min(1.0, cosine),
        sqnr_db=float(-20 * np.log10(rel_rms)) if rel_rms else float("inf"),
        nan_mismatch=nan_mismatch,
        shape_ok=True,
        dtype_ok=dtype_ok,
    )


@frozen
class _Block:
    """Sums over some elements; ``count`` are finite in both, ``nonzero`` of them expected not to be 0.

    ``noise``, ``signal`` and ``strength`` are the RMS of difference, expected and actual elements.
    """

    count: int
    nan_mismatch: int
    max_abs: float = 0.0
    mean_abs: float = 0.0
    nonzero: int = 0
    max_rel: float = 0.0
    mean_rel: float = 0.0
    noise: float = 0.0
    signal: float = 0.0
    strength: float = 0.0
    cosine: float = 0.0

    @classmethod
    def of(cls, want: Array, got: Array) -> _Block:
        finite = np.isfinite(want) & np.isfinite(got)
        nan_mismatch = 0
        if not finite.all():
            same = finite | (want == got) | (np.isnan(want) & np.isnan(got))
            nan_mismatch = int(np.count_nonzero(~same))
            want, got = want[finite], got[finite]
        if not want.size:
            return cls(0, nan_mismatch)
        difference, size = np.abs(got - want), np.abs(want)
        signal, strength = _rms(size), _rms(np.abs(got))
        nonzero = size > 0
        relative = difference[nonzero] / size[nonzero]
        both = signal and strength
        return cls(
            want.size,
            nan_mismatch,
            float(difference.max()),
            float(difference.mean()),
            relative.size,
            float(relative.max()) if relative.size else 0.0,
            float(relative.mean()) if relative.size else 0.0,
            _rms(difference),
            signal,
            strength,
            float(np.mean((want / signal * np.conj(got / strength)).real)) if both else 0.0,
        )


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether elements are floating-point numbers."""
    # bfloat16 and the 8-bit floats are not numpy's own: their kind is V.
    return dtype.kind in "fV"


def _wide(array: Array) -> Array:
    if array.dtype.kind == "c":
        return array.astype(np.complex128)
    if array.dtype.kind == "V":
        array = array.astype(np.float32)
    return array.astype(np.float64)


def _rms(values: Array, counts: Sequence[int] | None = None) -> float:
    """Root of the mean square of non-negative values, scaled so that the squares of large ones do not overflow.

    With ``counts`` the values are themselves the RMS of so many elements each.
    """
    top = float(values.max())
    return top * float(np.sqrt(np.average((values / top) ** 2, weights=counts))) if top else 0.0


def tolerance(precision: str, after_softmax: bool) -> float:
    """Largest relative RMS error that counts as the same result.

    Args:
        precision: ``fp16``: 5e-3, and 2e-2 where a Softmax is on the way. Measured: the toolkit's simulator is 7e-4 to
            1e-3 off on ResNet-50 and transformers of 2 to 6 layers, and 9.4e-3 after a Softmax, which amplifies.
            ``int8`` and below: 0.4, only to tell a quantized result from a wrong one. Measured: a small CNN of random
            weights is 0.32 off with the plain algorithm (cosine 0.949).
        after_softmax: Whether the tensor has a Softmax behind it, see :func:`.tolerance.softmax_outputs`.
    """
    if precision != "fp16":
        return _INT8_TOLERANCE
    return _FP16_SOFTMAX_TOLERANCE if after_softmax else _FP16_TOLERANCE
