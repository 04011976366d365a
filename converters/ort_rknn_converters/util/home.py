"""Expands ``~`` also where there is no home: in containers that run as a user id no password file knows."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["NOWHERE", "expanded", "no_home"]

NOWHERE = Path("/dev/null/ort_rknn")
"""A folder that nobody can make, not even root: stands for the one that cannot be named."""


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with its ``~`` replaced; :data:`NOWHERE` where there is no home to put in its place."""
    text = os.fspath(path)
    if not text.startswith("~"):
        return Path(text)
    found = os.path.expanduser(text)  # noqa: PTH111 - Path's own raises where there is no home
    if text.partition("/")[0] == "~" and not os.environ.get("HOME", " ").strip():
        found = _of_passwd() + text[1:]  # an empty HOME would mean the root folder
    return NOWHERE if found.startswith("~") else Path(found)


def no_home(path: Path) -> str:
    """Reason why ``path`` is :data:`NOWHERE` or below it, as a part of a sentence; empty where it is not."""
    if path != NOWHERE and NOWHERE not in path.parents:
        return ""
    return f"there is no home directory (HOME is not set, and user id {os.getuid()} is in no password file)"


def _of_passwd() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir or "~"
    except KeyError:
        return "~"
