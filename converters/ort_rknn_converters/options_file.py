"""Conversion options in a file: TOML or JSON with the names of :class:`ConvertOptions` as keys."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ort_rknn_converters.errors import UnknownOption
from ort_rknn_converters.options import ConvertOptions

__all__ = ["read_options"]

_NAMES = frozenset({"cpu_nodes", "cpu_ops"})


def read_options(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the options of a file; what they mean is checked where they are used.

    Args:
        path: ``.json``, or anything else as TOML.

    Returns:
        Option name -> value.

    Raises:
        UnknownOption: The file cannot be read, is not what its name says, or names an option there is not.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix.lower() == ".json" else _toml(text)
    except OSError as error:
        raise UnknownOption(f"{path}: {error.strerror}") from None
    except ValueError as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise UnknownOption(f"{path} is no {kind}: {error}") from None
    if not isinstance(found, Mapping):
        raise UnknownOption(f"{path} holds no options but a {type(found).__name__}")
    ConvertOptions.check_names(found, f"{path}: ")
    return {
        name: frozenset(value) if name in _NAMES and isinstance(value, list) else value for name, value in found.items()
    }


def _toml(text: str) -> Any:
    try:
        import tomllib as toml
    except ModuleNotFoundError:  # Python 3.10
        import tomli as toml  # type: ignore[import-not-found, no-redef, unused-ignore]

    return toml.loads(text)
