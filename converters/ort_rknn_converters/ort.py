"""ONNX Runtime, imported at its first use: in a conversion that is while the toolkit's process works already."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    import onnxruntime  # threads may be here at once: the import's own lock makes them wait

    return getattr(onnxruntime, name)
