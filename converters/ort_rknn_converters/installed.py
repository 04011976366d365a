"""Versions of installed packages, read off the names of their metadata folders.

``importlib.metadata`` knows too, but importing it takes as long as opening a small model.
"""

from __future__ import annotations

import os
import re
import sys

__all__ = ["version_of"]

_ENDING = ".dist-info"


def version_of(package: str) -> str:
    """The version of an installed package; ``""`` when there is none of this name."""
    wanted = _normal(package)
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - a path object for each of hundreds of names costs more
        except OSError:
            continue
        for name in names:
            if name.endswith(_ENDING):
                found, _, version = name.removesuffix(_ENDING).partition("-")
                if _normal(found) == wanted:
                    return version
    return _ask(package)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _ask(package: str) -> str:
    """For those installed in another way (an egg, a zip file, an importer of their own)."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""
