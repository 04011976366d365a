"""The execution provider's names."""

from __future__ import annotations

__all__ = ["CPU_PROVIDER", "RKNN_PROVIDER", "RKNN_PROVIDERS", "is_rknn"]

RKNN_PROVIDER = "RKNNExecutionProvider"
"""Ours. (``RknpuExecutionProvider`` is onnxruntime's own, for a chip of 2020, and means something else.)"""

RKNN_PROVIDERS = (RKNN_PROVIDER, "RKNPU2ExecutionProvider")
"""The name and its alias."""

CPU_PROVIDER = "CPUExecutionProvider"


def is_rknn(name: object) -> bool:
    """Whether ``name`` means this package's provider."""
    return name in RKNN_PROVIDERS
