"""How provider options are read: each value may be a Python object or, as onnxruntime's options are, a string."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import index
from typing import Any

__all__ = [
    "Parser",
    "choice",
    "dim_map",
    "flag",
    "name_set",
    "number",
    "shape_map",
    "text",
    "to_text",
    "whole",
]

Parser = Callable[[Any], Any]
"""Takes the user's value; returns ours or raises ``ValueError`` with the half sentence after ``"<name> must be "``."""

_TRUE = frozenset({"1", "true", "on", "yes"})
_FALSE = frozenset({"0", "false", "off", "no"})


def choice(*allowed: str) -> Parser:
    """One of a few words, any case."""

    def parse(value: Any) -> str:
        word = str(value).strip().lower()
        if word not in allowed:
            raise ValueError(f"one of {', '.join(allowed)}")
        return word

    return parse


def flag(value: Any) -> bool:
    """``True``/``False``, or 1/true/on/yes and 0/false/off/no in any case."""
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("true or false")


def whole(minimum: int) -> Parser:
    """A whole number from ``minimum`` up."""

    def parse(value: Any) -> int:
        try:
            result = int(value.strip()) if isinstance(value, str) else index(value)
        except (TypeError, ValueError):
            result = None
        if result is None or isinstance(value, bool) or result < minimum:
            raise ValueError(f"a whole number from {minimum} up")
        return result

    return parse


def number(minimum: float) -> Parser:
    """A finite number from ``minimum`` up."""

    def parse(value: Any) -> float:
        try:
            result = float(value)
        except (TypeError, ValueError):
            result = float("nan")
        if isinstance(value, bool) or not minimum <= result < float("inf"):
            raise ValueError(f"a number from {minimum:g} up")
        return result

    return parse


def text(value: Any) -> str:
    """Any text; a path object is taken as its text."""
    return str(value).strip()


def name_set(value: Any) -> frozenset[str]:
    """Names: a collection, or ``"Conv,Relu"``."""
    if isinstance(value, str):
        return frozenset(part.strip() for part in value.strip("[](){} ").split(",") if part.strip())
    if isinstance(value, Iterable):
        return frozenset(str(name) for name in value)
    raise ValueError('a collection of names, or "name,name"')


def shape_map(value: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by input name: a mapping, or ``"x=1x3x224x224;mask=1x77"``."""
    message = 'a mapping of input name to dimensions, or "x=1x3x224x224;y=1x8"'
    try:
        pairs = _pairs(value)
        return {
            str(name): tuple(int(dim) for dim in dims.lower().split("x") if dim.strip())
            if isinstance(dims, str)
            else tuple(index(dim) for dim in dims)
            for name, dims in pairs
        }
    except (TypeError, ValueError, SyntaxError):
        raise ValueError(message) from None


def dim_map(value: Any) -> dict[str, int]:
    """Sizes by symbolic dimension: a mapping, or ``"batch=1;seq=128"``."""
    try:
        return {str(name): int(size) for name, size in _pairs(value)}
    except (TypeError, ValueError, SyntaxError):
        raise ValueError('a mapping of dimension name to size, or "batch=1;seq=128"') from None


def to_text(value: Any) -> str:
    """The string form of a parsed value; every parser above reads it back to the same value."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, Mapping):
        return ";".join(f"{name}={_dims_text(item)}" for name, item in value.items())
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def _dims_text(value: Any) -> str:
    return str(value) if isinstance(value, int) else "x".join(map(str, value))


def _pairs(value: Any) -> list[tuple[str, Any]]:
    """Name and value pairs of a mapping or its string forms (a Python or JSON literal is one of them)."""
    if isinstance(value, Mapping):
        return list(value.items())
    if not isinstance(value, str):
        raise TypeError
    text = value.strip()
    if text.startswith("{"):
        import ast

        return list(ast.literal_eval(text).items())
    pairs = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, separator, item = part.rpartition("=")
        if not separator or not name:
            raise ValueError
        pairs.append((name.strip(), item.strip()))
    return pairs
