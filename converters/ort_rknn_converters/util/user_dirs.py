"""Folders of ours in the user's cache directory: the cache of compiled models and the toolkit's private environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ort_rknn_converters.util.home import expanded, no_home

__all__ = ["CACHE_VARIABLE", "cache_directory", "places", "size_on_disk", "toolkit_directory"]

CACHE_VARIABLE = "ORT_RKNN_CACHE_DIR"
"""Environment variable that names the cache's folder."""


def cache_directory(chosen: str | os.PathLike[str] | None = None) -> Path:
    """Returns the cache's folder: ``chosen``, or ``ORT_RKNN_CACHE_DIR``, or ``ort_rknn`` in the user's cache.

    It is below :data:`~ort_rknn_converters.util.home.NOWHERE` for users without a home.
    """
    return expanded(chosen or os.environ.get(CACHE_VARIABLE) or _user_cache())


def toolkit_directory() -> Path:
    """Returns the folder of the toolkit's private environment, there or not."""
    return cache_directory() / "toolkit"


def places(folder: Path) -> dict[str, tuple[Path, int]]:
    """Everything of ours in a cache folder: name -> where it lies and its bytes, only what is there.

    Args:
        folder: The cache's folder.
    """
    known = {
        "models": "compiled models",
        "toolkit": "toolkit's private environment",
        "conformance": "compiled models of conformance runs",
    }
    found: dict[str, tuple[Path, int]] = {}
    rest = 0
    for one in sorted(folder.iterdir()) if folder.is_dir() else ():
        size = size_on_disk(one) if one.is_dir() else one.stat().st_size
        if one.name in known:
            found[known[one.name]] = (one, size)
        else:
            rest += size
    return {**found, "other": (folder, rest)} if rest else found


def size_on_disk(root: Path) -> int:
    """Returns the bytes of all files below ``root``; links are not followed."""
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - thousands of files
            except OSError:
                continue
    return total


def _user_cache() -> Path:
    if sys.platform == "linux":  # what platformdirs gives; importing it takes milliseconds of every start
        folder = expanded(os.environ.get("XDG_CACHE_HOME", "").strip() or "~/.cache")
        return folder if no_home(folder) else folder / "ort_rknn"
    import platformdirs

    return platformdirs.user_cache_path("ort_rknn")
