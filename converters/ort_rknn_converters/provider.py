"""Names of the execution provider, as onnxruntime spells such names."""

from __future__ import annotations

__all__ = ["PROVIDER", "PROVIDERS"]

PROVIDER = "RKNNExecutionProvider"
"""Name of the execution provider: the ``source`` of our EPContext nodes."""

PROVIDERS = (PROVIDER, "RKNPU2ExecutionProvider")
"""The name and its alias."""
