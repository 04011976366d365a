"""Folders in which a user's processes say what they do: private, and gone with the boot where the system has such."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ort_rknn_converters.util.log import logger

__all__ = ["ENVIRONMENT", "own_folder", "private_folders", "process_start", "readable_folders"]

ENVIRONMENT = "ORT_RKNN_RUNTIME_DIR"
"""Environment variable: another folder, or ``off``."""

_NAME = "ort_rknn"


def _candidates() -> list[Path]:
    """Best first. A service and a login shell of one user have different environments, so that comes last."""
    named = os.environ.get(ENVIRONMENT, "")
    if named.lower() in ("off", "0", "none"):
        return []
    if named:
        return [Path(named)]
    uid = os.getuid()
    found = [Path(f"/run/user/{uid}") / _NAME, Path(f"/tmp/{_NAME}-{uid}")]
    session = os.environ.get("XDG_RUNTIME_DIR")
    if session and Path(session) / _NAME not in found:
        found.insert(1, Path(session) / _NAME)
    return found


def own_folder() -> Path | None:
    """Makes this user's folder; ``None`` where it is switched off, or nowhere a private one can be had."""
    for folder in _candidates():
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if _is_private(folder):
                return folder
            logger().info("%s is not used: it is not a folder that this user alone may enter", folder)
        except OSError:
            continue
    return None


def _is_private(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:  # nothing, or one may not look there: XDG_RUNTIME_DIR may be another user's
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def private_folders() -> list[Path]:
    """Folders that are this user's own."""
    return [folder for folder in _candidates() if _is_private(folder)]


def readable_folders() -> list[Path]:
    """All folders of this user; root's list has those of the others, too."""
    folders = private_folders()
    if os.getuid() == 0 and not os.environ.get(ENVIRONMENT):
        others = [*Path("/run/user").glob(f"*/{_NAME}"), *Path("/tmp").glob(f"{_NAME}-*")]
        folders += [one for one in others if one not in folders and not one.is_symlink() and one.is_dir()]
    return folders


def process_start(pid: int | str = "self") -> int | None:
    """Time a process began, in the kernel's clock ticks since the boot; ``None`` when there is none of that number."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19])  # the name before may have blanks and brackets
    except (OSError, ValueError, IndexError):
        return None
