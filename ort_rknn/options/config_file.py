"""The configuration file: defaults of provider options for all programs of a user, in TOML.

It is ``ort_rknn/config.toml`` in the user's configuration directory, or what the environment variable
``ORT_RKNN_CONFIG`` names (an empty value: none). Its keys are the names of the provider options.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ort_rknn.errors import InvalidOption

__all__ = ["VARIABLE", "config_path", "read_config"]

VARIABLE = "ORT_RKNN_CONFIG"

_read: dict[Path, tuple[tuple[int, int], Mapping[str, Any]]] = {}
_lock = threading.Lock()
_MOST = 1 << 20  # bytes of the file; a guess: it is written by hand


def config_path() -> Path | None:
    """Path of the file, there or not; ``None`` where the user wants none."""
    from ort_rknn_converters.util.home import expanded

    named = os.environ.get(VARIABLE)
    if named is not None:
        return expanded(named) if named.strip() else None
    # What platformdirs gives on the systems there are NPUs on; importing it takes longer than this file's reading.
    folder = os.environ.get("XDG_CONFIG_HOME", "").strip()
    return expanded(folder or "~/.config") / "ort_rknn" / "config.toml"


def read_config() -> tuple[Mapping[str, Any], Path | None]:
    """The file's content, and where it was found; read again only when it has changed.

    Raises:
        InvalidOption: It cannot be read, is no TOML, or is named and does not exist.
    """
    path = config_path()
    if path is None:
        return {}, None
    try:
        found = path.stat()
    except OSError as error:
        if VARIABLE not in os.environ:
            return {}, None
        raise InvalidOption(f"environment variable {VARIABLE} names {path}: {error.strerror}") from None
    stamp = (found.st_mtime_ns, found.st_size)
    with _lock:
        known = _read.get(path)
        if known is None or known[0] != stamp:
            known = _read[path] = (stamp, _parse(path))
    return known[1], path


def _parse(path: Path) -> Mapping[str, Any]:
    from ort_rknn_converters.util.own_files import read_regular
    from ort_rknn_converters.util.plain_data import parse_toml

    try:
        content: Mapping[str, Any] = parse_toml(read_regular(path, _MOST).decode("utf-8"))
    except OSError as error:
        raise InvalidOption(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # no UTF-8, or no TOML
        raise InvalidOption(f"{path} is no TOML file: {error}") from None
    return content
