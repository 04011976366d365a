"""The execution provider's names."""

from __future__ import annotations

from typing import Any

__all__ = ["CPU_PROVIDER", "RKNN_PROVIDER", "RKNN_PROVIDERS", "has_providers", "is_rknn"]

RKNN_PROVIDER = "RKNNExecutionProvider"
"""Ours. (``RknpuExecutionProvider`` is onnxruntime's own, for a chip of 2020, and means something else.)"""

RKNN_PROVIDERS = (RKNN_PROVIDER, "RKNPU2ExecutionProvider")
"""The name and its alias."""

CPU_PROVIDER = "CPUExecutionProvider"


def is_rknn(name: object) -> bool:
    """Whether ``name`` means this package's provider."""
    return name in RKNN_PROVIDERS


def has_providers(options: Any) -> bool:
    """Whether providers were added to session options (``None`` has none).

    Raises:
        AttributeError: ``options`` are no session options, in the words of onnxruntime, which asks the same.
    """
    if options is None:
        return False
    try:
        return bool(options.has_providers())
    except AttributeError:  # before onnxruntime 1.23 only ours are known
        return options._rknn_provider is not None
