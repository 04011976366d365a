"""Cost profile of this machine: where it is kept, and which one it is. Most machines have none."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ort_rknn_converters.util.log import logger
from ort_rknn_converters.util.own_files import is_there
from ort_rknn_converters.util.user_dirs import cache_directory

if TYPE_CHECKING:
    from ort_rknn_converters.partition.cost_profile import CostProfile

__all__ = ["installed", "profile_digest", "profile_path"]


def profile_path(target: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """Path of this machine's profile: in the cache's folder, or the one given."""
    return cache_directory(folder) / "cost" / f"{target}.json"


def installed(target: str, folder: str | os.PathLike[str] | None = None) -> CostProfile | None:
    """The profile that was measured on this machine for a SoC; ``None`` where there is none, or it is no board's.

    A file that cannot be used is warned of.
    """
    path = profile_path(target, folder)
    if not is_there(path):
        return None
    from ort_rknn_converters.partition.cost_profile import CostProfile  # most machines have none

    try:
        profile = CostProfile.load(path)
    except (OSError, ValueError) as error:
        logger().warning("the cost profile %s is not used: %s", path, error)
        return None
    return profile if profile.measured and profile.target == target else None


def profile_digest(target: str) -> str:
    """Tells one profile of this machine from another, for cache keys; empty where there is none."""
    profile = installed(target)
    if profile is None:
        return ""
    return hashlib.sha256(json.dumps(profile.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
