"""Runtime library that the user named, found before anything of the vendor's interface is imported."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

__all__ = ["ENVIRONMENT", "named_library", "open_library"]

ENVIRONMENT = ("ORT_RKNN_RUNTIME_LIBRARY", "ZTU_RKNPU2_RUNTIME_LIBRARY")
"""Environment variables that name the library; the first that is set counts."""


def named_library(path: str | os.PathLike[str] | None = None) -> str | None:
    """The library the user named by argument or environment, if any."""
    return next((str(name) for name in (path, *(os.environ.get(variable) for variable in ENVIRONMENT)) if name), None)


def open_library(path: str) -> ctypes.CDLL:
    """Load a shared library; the loader would wait for ever for the other end of a pipe.

    Args:
        path: A file, or a name for the loader to search.

    Raises:
        OSError: It cannot be loaded, or is no file.
    """
    import ctypes

    if os.sep in path:
        from ort_rknn_converters.util.own_files import open_regular

        open_regular(path).close()
    return ctypes.CDLL(path)
