"""The one strict reader of values from disk: JSON of a bounded size and depth, and the form each value must have.

Whatever is read back (a cache entry, a manifest, a plan in a model's metadata, a toolkit's answer, an options file) was
maybe cut short, changed, or written by a stranger. A form says what a value must be; one that is something else is
refused with its place: ``plan.nodes[3].place: expected NPU or CPU, found 7``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache, partial
from typing import Any

__all__ = [
    "ANYTHING",
    "COUNT",
    "FLAG",
    "MOST_BYTES",
    "NUMBER",
    "TEXT",
    "WHOLE",
    "Form",
    "Misshapen",
    "by_name",
    "check",
    "check_fields",
    "either",
    "flat_rows",
    "maybe",
    "parse_json",
    "parse_toml",
    "record",
    "rows",
    "word",
]

MOST_BYTES = 1 << 26
"""Of one JSON text. A guess: the plan of the largest model seen, 20,000 nodes, has 4 MB."""

_MOST_VALUES = 1 << 22  # of one text, each of which takes 60 bytes and more; that plan has 200,000

DEEPEST = 64
"""Levels of lists and objects; ours have at most 8."""

_LARGEST = 1 << 63  # of a whole number: no size or time is larger
_LARGEST_READ = 1 << 64  # an element of an unsigned tensor may be as large
_SHOWN = 60  # characters of a wrong value in a message

Form = Callable[[Any], None]
"""Refuses a value that is not of a form."""


class Misshapen(ValueError):
    """Raised for a value of another form than expected.

    Attributes:
        place: Where it is, from the outside: ``.nodes[3].name``; grows while the error rises.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.place = ""

    def inside(self, place: str) -> Misshapen:
        """Puts a place in front of the one it has, while it rises; returns it."""
        self.place = place + self.place
        return self

    def __str__(self) -> str:
        place = self.place.removeprefix(".")
        return f"{place}: {self.what}" if place else self.what

    __repr__ = __str__


def parse_json(text: str | bytes, form: Form | None = None, *, most: int = MOST_BYTES) -> Any:
    """Read a JSON text.

    Args:
        text: The text, or its bytes in UTF-8.
        form: What it must be; ``None``: whoever uses it checks.
        most: Bytes or characters at most.

    Raises:
        Misshapen: It is no JSON, too long, too deep, not of that form, or has numbers or texts that nothing can have.
    """
    if len(text) > most:
        raise Misshapen(f"expected at most {most:,} bytes, found {len(text):,}")
    try:
        if not isinstance(text, str):
            text = text.removeprefix(b"\xef\xbb\xbf").decode(
                "utf-8"
            )  # json itself would take UTF-16, and halves of characters
        if text.count(",") + text.count("[") + text.count("{") > _MOST_VALUES:
            raise ValueError(f"more than {_MOST_VALUES:,} values")
        value = _DECODER.decode(text)
        if r"\ud" in text or r"\uD" in text:  # halves of characters, but for what Python has in the names of files
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except RecursionError:
        raise Misshapen("it is nested too deeply") from None
    except ValueError as error:  # UnicodeError is one
        raise Misshapen(f"it is no JSON ({error})") from None
    if form is None:
        _bounded(value)
    else:
        form(value)
    return value


def _whole(digits: str) -> int:
    """A whole number of at most 64 bits: larger ones cannot even be compared with the others."""
    value = int(digits) if len(digits) <= 20 else _LARGEST_READ
    if not -_LARGEST <= value < _LARGEST_READ:
        raise ValueError(f"a number of {len(digits)} digits")
    return value


_DECODER = json.JSONDecoder(parse_int=_whole)


def check(value: Any, form: Form, where: str = "") -> Any:
    """Returns the value, if it has the form.

    Raises:
        Misshapen: It has not.
    """
    try:
        form(value)
    except Misshapen as error:
        raise error.inside(where) from None
    return value


def _bounded(value: Any, *, numbers: bool = False) -> None:
    level, depth, kinds = [value], 0, {dict, list, int} if numbers else {dict, list}
    while level:
        if depth > DEEPEST:
            raise Misshapen("it is nested too deeply")
        inner: list[Any] = []
        for one in level:
            if type(one) is dict:
                inner.extend(one.values())
            elif type(one) is list:
                inner.extend(one)
            elif numbers and type(one) is int and not -_LARGEST <= one < _LARGEST_READ:
                raise Misshapen("a number of more than 64 bits")
        level, depth = [one for one in inner if type(one) in kinds], depth + 1


def _wrong(expected: str, value: Any) -> Misshapen:
    shown = repr(value if not isinstance(value, (str, bytes)) else value[:_SHOWN])[:_SHOWN]
    return Misshapen(f"expected {expected}, found {ascii(shown)[1:-1] if not shown.isascii() else shown}")


def _is_a(expected: str, *types: type) -> Form:
    wanted = frozenset(types)

    def form(value: Any) -> None:
        if type(value) not in wanted:
            raise _wrong(expected, value)

    return form


TEXT = _is_a("a text", str)
FLAG = _is_a("true or false", bool)
NUMBER = _is_a("a number", int, float)


def ANYTHING(value: Any) -> None:
    """Takes any value of a bounded depth."""
    _bounded(value)


def WHOLE(value: Any) -> None:
    """Takes a whole number of at most 64 bits."""
    if type(value) is not int or not -_LARGEST <= value < _LARGEST:
        raise _wrong("a whole number", value)


def COUNT(value: Any) -> None:
    """Takes a whole number from 0 up."""
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise _wrong("a whole number from 0 up", value)


def word(*words: Any) -> Form:
    """One of a closed set."""
    known = frozenset(words)

    def form(value: Any) -> None:
        if type(value) not in (str, int, type(None)) or value not in known:
            raise _wrong(" or ".join(map(str, words)), value)

    return form


def maybe(inner: Form) -> Form:
    """``null``, or of a form."""

    def form(value: Any) -> None:
        if value is not None:
            inner(value)

    return form


def either(*forms: Form) -> Form:
    """A value of one of several forms; the last one's error is raised."""

    def form(value: Any) -> None:
        for one in forms[:-1]:
            try:
                return one(value)
            except Misshapen:
                continue
        return forms[-1](value)

    return form


def rows(inner: Form) -> Form:
    """A list; a tuple is as good, for data that were never written."""

    def form(value: Any) -> None:
        if type(value) not in (list, tuple):
            raise _wrong("a list", value)
        for number, one in enumerate(value):
            try:
                inner(one)
            except Misshapen as error:
                raise error.inside(f"[{number}]") from None

    return form


def by_name(inner: Form) -> Form:
    """An object with names of the writer's choice."""

    def form(value: Any) -> None:
        if type(value) is not dict:
            raise _wrong("an object", value)
        for name, one in value.items():
            try:
                inner(one)
            except Misshapen as error:
                raise error.inside(f"[{name[:_SHOWN]!r}]") from None

    return form


def record(needed: Mapping[str, Form], optional: Mapping[str, Form] | None = None, *, more: bool = False) -> Form:
    """An object with these names.

    Args:
        needed: Name -> form.
        optional: Names that may be missing.
        more: Whether other names are let through, unread.
    """
    known = {**needed, **(optional or {})}

    def form(value: Any) -> None:
        if type(value) is not dict:
            raise _wrong("an object", value)
        for name in needed:
            if name not in value:
                raise Misshapen(f"{name} is missing")
        for name, one in value.items():
            inner = known.get(name)
            if inner is None:
                if more:
                    continue
                raise Misshapen(f"{name[:_SHOWN]!r} is not known here")
            try:
                inner(one)
            except Misshapen as error:
                raise error.inside(f".{name}") from None

    return form


def flat_rows(columns: Mapping[str, tuple[type, ...]], optional: frozenset[str] = frozenset()) -> Form:
    """A long list of records of plain values, checked by type only: a third of what :func:`record` takes.

    Args:
        columns: Name -> types.
        optional: Names that may be missing.
    """
    names, needed = columns.keys(), columns.keys() - optional

    def form(value: Any) -> None:
        if type(value) not in (list, tuple):
            raise _wrong("a list", value)
        for number, row in enumerate(value):
            if type(row) is not dict or not needed <= row.keys() <= names:
                raise _wrong(f"an object with {', '.join(names)}", row).inside(f"[{number}]")
            for name, one in row.items():
                if type(one) not in columns[name]:
                    kinds = " or ".join(kind.__name__ for kind in columns[name])
                    raise _wrong(kinds, one).inside(f"[{number}].{name}")

    return form


def parse_toml(text: str) -> dict[str, Any]:
    """Read a TOML text; what its values mean is checked where they are used.

    Raises:
        Misshapen: It is no TOML, or nested too deeply.
    """
    try:
        import tomllib as toml
    except ModuleNotFoundError:  # Python 3.10
        import tomli as toml  # type: ignore[import-not-found, no-redef, unused-ignore]

    try:
        found: dict[str, Any] = toml.loads(text)
    except RecursionError:
        raise Misshapen("it is nested too deeply") from None
    except (ValueError, OverflowError) as error:  # the latter: a date beyond the calendar
        raise Misshapen(str(error)) from None
    _bounded(found, numbers=True)
    return found


def check_fields(value: Any) -> None:
    """Compare the fields of a dataclass that was made from foreign data with their annotations, those inside included.

    Slower than a form: for what is read once and is small.

    Raises:
        Misshapen: A field holds something else.
    """
    kind: Any = type(value)
    for name, hint in _hints(kind).items():
        try:
            _check_hint(getattr(value, name), hint)
        except Misshapen as error:
            raise error.inside(f".{name}") from None


@lru_cache(maxsize=64)
def _hints(kind: Any) -> dict[str, Any]:
    from typing import get_type_hints

    names = [row.name for row in fields(kind)]
    return {name: hint for name, hint in get_type_hints(kind).items() if name in names}


def _check_hint(value: Any, hint: Any) -> None:
    from collections import abc
    from types import NoneType, UnionType
    from typing import Literal, Union, get_args, get_origin

    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return _bounded(value)
    if origin in (Union, UnionType):
        return either(*(partial(_check_hint, hint=one) for one in inner))(value)
    if origin is Literal:
        return word(*inner)(value)
    if origin is tuple:
        if type(value) is not tuple:
            raise _wrong("a list", value)
        for number, one in enumerate(value):
            try:
                _check_hint(one, inner[0] if inner[-1] is ... else inner[min(number, len(inner) - 1)])
            except Misshapen as error:
                raise error.inside(f"[{number}]") from None
        return None
    if origin in (dict, abc.Mapping):
        return by_name(partial(_check_hint, hint=inner[1]))(value)
    if is_dataclass(hint):
        if type(value) is not hint:
            raise _wrong(f"a {type(hint).__name__ if not isinstance(hint, type) else hint.__name__}", value)
        return check_fields(value)
    wanted = {float: NUMBER, int: WHOLE, str: TEXT, bool: FLAG, NoneType: maybe(word(None)), None: maybe(word(None))}
    return wanted[hint](value)
