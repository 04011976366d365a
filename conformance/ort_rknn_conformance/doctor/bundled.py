"""The compiled models that come with the package, as files: reading them needs nothing."""

from __future__ import annotations

from importlib import resources
from typing import Any

__all__ = ["CONVOLUTION_NAME", "file_name", "folder", "read_bundled"]

CONVOLUTION_NAME = "conv"
"""The first of them, which the self-test takes: two nodes, one input ``x``, float32 1x8x8x8."""


def folder() -> Any:
    """Folder of the compiled models in the package."""
    return resources.files("ort_rknn_conformance.doctor") / "models"


def file_name(name: str, target: str) -> str:
    """Name of a model's file for a SoC."""
    return f"{target}.compiled" if name == CONVOLUTION_NAME else f"{target}-{name}.compiled"


def read_bundled(name: str, target: str) -> bytes:
    """Reads a compiled model.

    Raises:
        FileNotFoundError: There is none for this SoC.
    """
    content: bytes = (folder() / file_name(name, target)).read_bytes()
    return content
