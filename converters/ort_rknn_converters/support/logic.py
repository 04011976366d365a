"""Comparisons, truth values and selection."""

from __future__ import annotations

from ort_rknn_converters.support.rule import BOOL, FLOAT, INDEX, NUMBER, Rule

__all__ = ["RULES"]

_COMPARE = Rule(inputs=(NUMBER,), outputs=(BOOL,), ranks=(0, 5))

RULES = {
    "And": Rule(inputs=(BOOL,), outputs=(BOOL,), ranks=(0, 5)),
    # Floats that differ by less than an fp16 step would compare equal on the NPU.
    "Equal": Rule(inputs=(INDEX,), outputs=(BOOL,), ranks=(0, 5)),
    "Greater": _COMPARE,
    "GreaterOrEqual": _COMPARE,
    "Less": _COMPARE,
    "LessOrEqual": _COMPARE,
    "Not": Rule(inputs=(BOOL,), outputs=(BOOL,), ranks=(0, 5)),
    "Where": Rule(inputs=(BOOL, FLOAT, FLOAT), ranks=(0, 5)),
}
