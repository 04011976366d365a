"""Versions of installed packages, read off the names of their metadata folders.

``importlib.metadata`` knows too, but importing it takes as long as opening a small model.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache

__all__ = ["version_of"]

_ENDING = ".dist-info"


def version_of(package: str) -> str:
    """The version of an installed package; ``""`` when there is none of this name."""
    wanted = _normal(package)
    for folder in sys.path:
        try:
            changed = os.stat(folder or ".").st_mtime_ns  # noqa: PTH116 - see below
        except OSError:
            continue
        version = _versions(folder or ".", changed).get(wanted)
        if version is not None:
            return version
    return _ask(package)


@lru_cache(maxsize=64)
def _versions(folder: str, changed: int) -> dict[str, str]:
    """The packages in a folder; read again when it changed."""
    found: dict[str, str] = {}
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a path object for each of hundreds of names costs more
    except OSError:
        return found
    for name in names:
        if name.endswith(_ENDING):
            package, _, version = name.removesuffix(_ENDING).partition("-")
            found.setdefault(_normal(package), version)
    return found


def _normal(name: str) -> str:
    """The packaging standard's form of a name; runs of separators, which it makes one, nobody has."""
    return name.lower().replace("_", "-").replace(".", "-")


def _ask(package: str) -> str:
    """For those installed in another way (an egg, a zip file, an importer of their own)."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""
