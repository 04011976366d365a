"""Where the cache is."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["directory"]


def directory(chosen: str | os.PathLike[str] | None = None) -> Path:
    """The cache's folder: ``chosen``, or ``ORT_RKNN_CACHE_DIR``, or ``ort_rknn`` in the user's cache directory."""
    from ort_rknn_converters.toolkit.setup.environment import private_directory

    return Path(chosen).expanduser() if chosen else private_directory().parent
