"""Parses the two notations of nested values in a ``.rknn`` file (JSON, and what Python prints), and checks the values.

The standard library's parsers can be made to recurse or to compute for a very long time by a hostile text
(``ast.literal_eval`` also knows neither ``nan`` nor ``inf``); this one is linear and stops at a fixed depth.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

__all__ = ["as_list", "as_mapping", "as_sizes", "as_text", "parse_literal"]

DEEPEST = 32  # the vendor's files nest 5 deep
LONGEST = 1 << 20  # characters; the vendor writes some hundred for each input and output
DIGITS = 400  # of a number: float64's longest repr with room to spare
MOST_DIMS = 64  # of a tensor; the vendor's RKNN_MAX_DIMS is 16
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<mark>[\[\](){},:])
    | (?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
    | (?P<number>[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|inf\b|nan\b|Infinity\b|NaN\b))
    | (?P<word>True|False|None|true|false|null)\b
    )""",
    re.VERBOSE,
)
_WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}
_CLOSING = {"[": "]", "(": ")", "{": "}"}


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._kind, self._token = "", ""
        self._next()

    def _next(self) -> None:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            if self._text[self._at :].strip():
                raise ValueError(f"unexpected text at character {self._at}")
            self._kind, self._token = "end", ""
            return
        self._kind, self._at = str(match.lastgroup), match.end()
        self._token = match[self._kind]

    def _mark(self, mark: str) -> bool:
        if self._kind == "mark" and self._token == mark:
            self._next()
            return True
        return False

    def value(self, depth: int = 0) -> Any:
        """One value; containers count one level each."""
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
        kind, token = self._kind, self._token
        self._next()
        if kind == "text":
            return _unquote(token)
        if kind == "number":
            return _number(token)
        if kind == "word":
            return _WORDS[token]
        if kind == "mark" and token == "{":
            return self._mapping(depth + 1)
        if kind == "mark" and token in "[(":
            return self._sequence(_CLOSING[token], depth + 1)
        raise ValueError(f"unexpected {token!r}" if token else "the text ends too early")

    def _sequence(self, closing: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while not self._mark(closing):
            items.append(self.value(depth))
            if not self._mark(",") and not (self._kind == "mark" and self._token == closing):
                raise ValueError(f"expected , or {closing}")
        return items

    def _mapping(self, depth: int) -> dict[Any, Any]:
        items: dict[Any, Any] = {}
        while not self._mark("}"):
            key = self.value(depth)
            if isinstance(key, (list, dict)) or not self._mark(":"):
                raise ValueError("expected a key and a colon")
            items[key] = self.value(depth)
            if not self._mark(",") and not (self._kind == "mark" and self._token == "}"):
                raise ValueError("expected , or }")
        return items

    def end(self) -> None:
        """Refuse anything behind the value."""
        if self._kind != "end":
            raise ValueError(f"unexpected {self._token!r} behind the value")


def _unquote(token: str) -> str:
    if "\\" not in token:
        return token[1:-1]
    # JSON and Python write the same escapes, except that JSON joins surrogates and also escapes the slash.
    if token[0] == '"':
        try:
            return str(json.loads(token))
        except ValueError:
            pass
    return str(ast.literal_eval(token))


def _number(token: str) -> int | float:
    if len(token) > DIGITS:
        raise ValueError("a number of too many digits")
    try:
        return int(token)
    except ValueError:
        return float(token)


def parse_literal(text: str) -> Any:
    """The value ``text`` describes; tuples become lists.

    Raises:
        ValueError: It is neither JSON nor a Python literal, or is nested or long beyond reason.
    """
    if len(text) > LONGEST:
        raise ValueError(f"a description of {len(text)} characters")
    parser = _Parser(text)
    try:
        value = parser.value()
    except SyntaxError as error:
        raise ValueError(f"a string that is none: {error}") from error
    parser.end()
    return value


def as_mapping(value: Any) -> dict[Any, Any]:
    """``value``, which must be a mapping.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, dict):
        raise ValueError("a description that is no mapping")
    return value


def as_list(value: Any) -> list[Any]:
    """``value``, which must be a list.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, list):
        raise ValueError("a description that is no list")
    return value


def as_text(value: Any) -> str:
    """``value`` if it is a text, else an empty one."""
    return value if isinstance(value, str) else ""


def as_sizes(value: Any) -> tuple[int, ...]:
    """``value``, which must be the list of a tensor's dimensions.

    Raises:
        ValueError: It cannot be that.
    """
    dims = as_list(value)
    if len(dims) > MOST_DIMS or not all(type(dim) is int and 0 <= dim < 1 << 31 for dim in dims):
        raise ValueError(f"impossible dimensions {str(dims)[:80]}")
    return tuple(dims)
