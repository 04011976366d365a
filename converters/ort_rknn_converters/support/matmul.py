"""Matrix products."""

from __future__ import annotations

from ort_rknn_converters.support.rule import Rule

__all__ = ["RULES"]

# Rank 4 is the largest the vendor lists for MatMul; larger batches come from window attention and stay on the CPU.
RULES = {
    "Gemm": Rule(ranks=(2, 2)),
    "MatMul": Rule(ranks=(1, 4)),
}
