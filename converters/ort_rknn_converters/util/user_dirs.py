"""Folders of ours in the user's cache directory: the cache of compiled models and the toolkit's private environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ort_rknn_converters.util.home import NOWHERE, expanded, no_home
from ort_rknn_converters.util.log import warn_once
from ort_rknn_converters.util.own_files import not_ours

__all__ = [
    "CACHE_VARIABLE",
    "KNOWN_FAILURES",
    "cache_directory",
    "is_not_ours",
    "places",
    "size_on_disk",
    "toolkit_directory",
    "unusable",
]

_NOT_OURS = NOWHERE.with_name("ort_rknn-not-ours")
"""Stands for a folder that others could have put files into; like :data:`NOWHERE`, nobody can make it."""

_reasons: dict[Path, str] = {}

CACHE_VARIABLE = "ORT_RKNN_CACHE_DIR"
"""Environment variable that names the cache's folder."""

KNOWN_FAILURES = "verdicts.json"
"""Name of the file in it that keeps failures of single nodes; see :mod:`ort_rknn_converters.compile.known_failures`."""


def cache_directory(chosen: str | os.PathLike[str] | None = None) -> Path:
    """Returns the cache's folder: ``chosen``, or ``ORT_RKNN_CACHE_DIR``, or ``ort_rknn`` in the user's cache.

    It is below :data:`~ort_rknn_converters.util.home.NOWHERE` for users without a home. A folder that belongs to
    somebody else, or that others can write to, is not used, with a warning: it holds code that is run. Everything works
    without a cache, only slowly.
    """
    folder = expanded(chosen or os.environ.get(CACHE_VARIABLE) or _user_cache())
    if no_home(folder) or is_not_ours(folder):
        return folder
    why = not_ours(folder)
    if not why:
        return folder
    warn_once(
        f"the cache folder {folder} is not used, because {why}: it holds code that is run. Set {CACHE_VARIABLE} to a"
        " folder of your own"
    )
    _reasons[_NOT_OURS] = why
    return _NOT_OURS


def is_not_ours(path: Path) -> bool:
    """Whether a path stands for a cache folder that is not used because others could have put files into it."""
    return path == _NOT_OURS or _NOT_OURS in path.parents


def unusable(path: Path) -> str:
    """Reason why a folder of ours cannot be there, as a part of a sentence; empty where it can."""
    if is_not_ours(path):
        return _reasons.get(_NOT_OURS, "others can write to it")
    return no_home(path)


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
