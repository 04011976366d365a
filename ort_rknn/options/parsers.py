"""Reads provider options: each value may be a Python object or, as onnxruntime's options are, a string."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import index
from typing import Any

from ort_rknn.ort_conventions import TRUE_WORDS

__all__ = [
    "Parser",
    "bits",
    "choice",
    "dim_map",
    "flag",
    "name_set",
    "number",
    "path_list",
    "shape_lists",
    "size",
    "target_name",
    "text",
    "to_text",
    "whole",
]

Parser = Callable[[Any], Any]
"""Takes the user's value; returns ours or raises ``ValueError`` with the half sentence after ``"<name> must be "``."""

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
    if word in TRUE_WORDS:
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


def target_name(value: Any) -> str:
    """A SoC's own name.

    Raises:
        UnknownTarget: There is no such SoC.
    """
    from ort_rknn_converters.targets import find_target

    return find_target(str(value)).name


def size(value: Any) -> int:
    """Bytes, also as ``500M`` or ``2GiB``."""
    from ort_rknn_converters.cache.limit import size_in

    try:
        result = 0 if isinstance(value, bool) else size_in(str(value))
    except ValueError:
        result = 0
    if result < 1:
        raise ValueError("a number of bytes from 1 up, or a size such as 500M or 2GiB")
    return result


def bits(value: Any) -> int:
    """A whole number of 32 bits, also as ``0x..``."""
    try:
        result = int(value.strip(), 0) if isinstance(value, str) else index(value)
    except (TypeError, ValueError):
        result = -1
    if isinstance(value, bool) or not 0 <= result < 1 << 32:
        raise ValueError("a whole number from 0 to 0xffffffff")
    return result


def number(minimum: float) -> Parser:
    """A finite number from ``minimum`` up."""

    def parse(value: Any) -> float:
        try:
            result = float(value)
        except (TypeError, ValueError, OverflowError):
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


def path_list(value: Any) -> tuple[str, ...]:
    """Paths in order: a sequence, or ``"/a/one.so,/a/two.so"``."""
    if isinstance(value, str):
        value = value.split(",")
    elif not isinstance(value, Iterable):
        value = (value,)
    return tuple(path for path in (str(part).strip() for part in value) if path)


def shape_lists(value: Any) -> dict[str, tuple[tuple[int, ...], ...]]:
    """One or several shapes by input name: a mapping, or ``"x=1x3x48x320;x=1x3x48x640;mask=1x77"``.

    A part without a name is another shape of the input before it.
    """
    from ort_rknn_converters.shape_sets import shape_sets

    message = 'a mapping of input name to dimensions (or a list of such), or "x=1x3x224x224;y=1x8"'
    found: dict[str, list[tuple[int, ...]]] = {}
    try:
        name = None
        for given, dims in _pairs(value, names_optional=True):
            name = name if given is None else str(given)
            if name is None:
                raise ValueError
            found.setdefault(name, []).extend(_shapes(dims))
        shape_sets(found)
    except RuntimeError as error:  # UnknownOption: as many shapes for each input
        raise ValueError(f"{message}; {error}") from None
    except (TypeError, ValueError, SyntaxError):
        raise ValueError(message) from None
    return {name: tuple(shapes) for name, shapes in found.items()}


def _shapes(value: Any) -> list[tuple[int, ...]]:
    if isinstance(value, str):
        return [tuple(int(dim) for dim in value.lower().split("x") if dim.strip())]
    items = list(value)
    if items and all(isinstance(item, Iterable) for item in items):
        return [shape for item in items for shape in _shapes(item)]
    return [tuple(index(dim) for dim in items)]


def dim_map(value: Any) -> dict[str, int]:
    """Sizes by symbolic dimension: a mapping, or ``"batch=1;seq=128"``."""
    try:
        return {str(name): int(size) for name, size in _pairs(value)}
    except (TypeError, ValueError, SyntaxError):
        raise ValueError('a mapping of dimension name to size, or "batch=1;seq=128"') from None


def value_map(value: Any) -> dict[str, tuple[str, ...]]:
    """Values by input name, as JSON texts: a mapping, or ``"downsample_ratio=0.25,0.5;use_cache_branch=true"``."""
    from ort_rknn_converters.pinned_values import pinned_texts

    message = 'a mapping of input name to value (or a list of such), or "downsample_ratio=0.25,0.5"'
    found: dict[str, tuple[str, ...]] = {}
    try:
        for name, item in _pairs(value):
            found[str(name)] = found.get(str(name), ()) + pinned_texts(str(name), item)
    except RuntimeError as error:  # UnknownOption
        raise ValueError(str(error)) from None
    except (TypeError, ValueError, SyntaxError):
        raise ValueError(message) from None
    return found


def to_text(value: Any) -> str:
    """The string form of a parsed value; every parser above reads it back to the same value."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, Mapping):
        return ";".join(f"{name}={text}" for name, item in value.items() for text in _item_texts(item))
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def _item_texts(value: Any) -> list[str]:
    """A size, or several shapes, or several values that are texts already."""
    if isinstance(value, int):
        return [str(value)]
    return [one if isinstance(one, str) else "x".join(map(str, one)) for one in value]


def _pairs(value: Any, *, names_optional: bool = False) -> list[tuple[Any, Any]]:
    """Name and value pairs of a mapping or its string forms (a Python or JSON literal is one of them).

    Where names are optional, ``None`` stands for one that is not there.
    """
    if isinstance(value, Mapping):
        return list(value.items())
    if not isinstance(value, str):
        raise TypeError
    text = value.strip()
    if text.startswith("{"):
        from ort_rknn_converters.rknn_format.literals import parse_literal  # bounded in depth and time

        return list(parse_literal(text).items())
    pairs: list[tuple[Any, Any]] = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, separator, item = part.rpartition("=")  # two of them: the parts are separated otherwise
        if "=" in name or (separator and not name) or (not separator and not names_optional):
            raise ValueError
        pairs.append((name.strip() or None, item.strip()))
    return pairs
