"""Finds the Python this program runs in, to start it once more: ``sys.executable`` is not always one.

In uWSGI and other hosts it is the host, in a frozen program the program itself, and embedded it may be empty. To start
that would start the host a second time, so it is judged by its name and never tried.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

__all__ = ["this_python"]

_NAME = r"(?i:(python|pypy)\d*(\.\d+)?[a-z]?(\.exe)?)"


def this_python() -> str:
    """Path of an interpreter of this version that imports what this program imports; ``""`` where there is none.

    Looked for: ``sys.executable``, the interpreter of the environment, and the one the environment was made of. A
    frozen program has none: its modules are in itself.
    """
    if getattr(sys, "frozen", False):
        return ""
    if _is_python(sys.executable):
        return sys.executable
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for prefix in dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix)):
        found = str(Path(prefix) / "bin" / name)
        if _is_python(found):
            return found
    return ""


def _is_python(path: str | None) -> bool:
    """Whether a file is a Python by its name, or by that of the file it links to."""
    if not path or not os.access(path, os.X_OK) or not Path(path).is_file():
        return False
    return any(re.fullmatch(_NAME, one.name) for one in (Path(path), Path(path).resolve()))
