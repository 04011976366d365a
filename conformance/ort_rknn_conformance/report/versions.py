"""Versions of all that has a say in the numbers; read from metadata, so that a broken package does not matter."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

__all__ = ["versions"]


def versions() -> dict[str, str | None]:
    """Versions of everything that has a say in the numbers; ``None``: not installed."""
    from ort_rknn_converters.toolkit.setup.environment import toolkit_version

    packages = ("ort-rknn", "onnxruntime", "onnx", "onnx-ir", "numpy")
    return {
        **{package: _version(package) for package in packages},
        "rknn-toolkit2": toolkit_version(),
        "python": platform.python_version(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a checkout
        return "checkout" if package == "ort-rknn" and "ort_rknn" in sys.modules else None
