"""The runtime library by name: what the user named, where it is looked for, what its file says. Needs no numpy."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path

__all__ = ["ENVIRONMENT", "FOLDERS", "NAMES", "named_library", "version_in"]

ENVIRONMENT = ("ORT_RKNN_RUNTIME_LIBRARY", "ZTU_RKNPU2_RUNTIME_LIBRARY")
"""Environment variables that name the library; the first that is set counts."""

NAMES = ("librknnrt.so", "librknnrt.so.2")
FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib", "/vendor/lib64", "/system/lib64")

_VERSION = re.compile(rb"librknnrt version: (\d+\.\d+\.\d+)")


def named_library(path: str | os.PathLike[str] | None = None) -> str | None:
    """The library the user named by argument or environment, if any."""
    return next((str(name) for name in (path, *(os.environ.get(variable) for variable in ENVIRONMENT)) if name), None)


def version_in(path: str | os.PathLike[str]) -> str | None:
    """The version written into a file, e.g. ``2.3.2``; ``None`` where there is none or it cannot be read."""
    try:
        with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=1) as data:
            found = _VERSION.search(data)
            return found.group(1).decode() if found else None
    except (OSError, ValueError):
        return None
