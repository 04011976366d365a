"""The runtime library by name: what the user named, where it is looked for, what its file says. Needs no numpy."""

from __future__ import annotations

import mmap
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

__all__ = ["ENVIRONMENT", "FOLDERS", "NAMES", "named_library", "open_library", "searched", "version_in"]

ENVIRONMENT = ("ORT_RKNN_RUNTIME_LIBRARY", "ZTU_RKNPU2_RUNTIME_LIBRARY")
"""Environment variables that name the library; the first that is set counts."""

NAMES = ("librknnrt.so", "librknnrt.so.2")
FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib", "/vendor/lib64", "/system/lib64")

_VERSION = rb"librknnrt version: (\d+\.\d+\.\d+)"
_MOST = 1 << 27  # bytes of a library that are searched; a guess: librknnrt has 8 MB


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


def searched(opened: int) -> int:
    """Bytes of an open library that are searched for its version: a file may have holes of gigabytes."""
    return min(os.fstat(opened).st_size, _MOST)


def version_in(path: str | os.PathLike[str]) -> str | None:
    """The version written into a file, e.g. ``2.3.2``; ``None`` where there is none or it cannot be read."""
    try:
        from ort_rknn_converters.util.own_files import open_regular

        with open_regular(path) as file, mmap.mmap(file.fileno(), searched(file.fileno()), access=1) as data:
            found = re.search(_VERSION, data)
            return found.group(1).decode() if found else None
    except (OSError, ValueError):
        return None
