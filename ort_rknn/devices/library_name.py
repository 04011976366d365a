"""Runtime library that the user named, found before anything of the vendor's interface is imported."""

from __future__ import annotations

import os

__all__ = ["ENVIRONMENT", "named_library"]

ENVIRONMENT = ("ORT_RKNN_RUNTIME_LIBRARY", "ZTU_RKNPU2_RUNTIME_LIBRARY")
"""Environment variables that name the library; the first that is set counts."""


def named_library(path: str | os.PathLike[str] | None = None) -> str | None:
    """The library the user named by argument or environment, if any."""
    return next((str(name) for name in (path, *(os.environ.get(variable) for variable in ENVIRONMENT)) if name), None)
