"""Conversion options in a file: TOML or JSON with the names of :class:`ConvertOptions` as keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ort_rknn_converters.errors import UnknownOption
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.util.own_files import read_regular
from ort_rknn_converters.util.plain_data import parse_json, parse_toml

__all__ = ["read_options"]

_MOST = 1 << 24  # bytes of the file; a guess: a list of all nodes of the largest model has 1 MB
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
        text = read_regular(path, _MOST).decode("utf-8")
        found = parse_json(text) if path.suffix.lower() == ".json" else parse_toml(text)
    except OSError as error:
        raise UnknownOption(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise UnknownOption(f"{path} is no {kind}: {error}") from None
    if not isinstance(found, Mapping):
        raise UnknownOption(f"{path} holds no options but a {type(found).__name__}")
    found = ConvertOptions.own_names(found, f"{path}: ")
    for name, value in found.items():
        if name in _FORMS and not _FORMS[name][1](value):
            raise UnknownOption(f"{path}: {name} is {_FORMS[name][0]}, not {value!r}")
    return {name: frozenset(value) if name in _NAMES else value for name, value in found.items()}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _list_of(one: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(one, value))


def _by_name(one: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(one, value.values()))


_SHAPE = _list_of(_is_size)
_FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "cpu_nodes": ("a list of names", _list_of(_is_text)),
    "cpu_ops": ("a list of names", _list_of(_is_text)),
    "disable_rules": ("a list of names", _list_of(_is_text)),
    "dims": ("a size by the name of each dimension", _by_name(_is_size)),
    "preprocess": ("a text", _is_text),
    "shapes": (
        "a shape, or a list of them, by the name of each input",
        _by_name(lambda one: _SHAPE(one) or _list_of(_SHAPE)(one)),
    ),
    "target": ("a text", _is_text),
    "values": ("a value by the name of each input", _by_name(lambda one: not isinstance(one, dict))),
}
"""Options whose form is not looked at where they are used: what they are, and whether a value is that."""
