"""Shows onnxruntime's own signatures for the methods that are overridden here.

A program that asks ``inspect.signature`` which parameters it may give must see those of the installed release, whose
newer ones our code passes on unread.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

__all__ = ["shown_as_theirs"]

_Class = TypeVar("_Class", bound=type)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def shown_as_theirs(cls: _Class) -> _Class:
    """Gives each overridden method the signature of the installed onnxruntime's, with our own parameters after them."""
    ours = [base for base in cls.__mro__ if base.__module__.startswith("ort_rknn")]
    theirs = [base for base in cls.__mro__ if base.__module__.startswith("onnxruntime")]
    for base in ours:
        for name, member in vars(base).items():
            over = next((vars(other)[name] for other in theirs if name in vars(other)), None)
            mine, original = _function(member), _function(over)
            if mine is None or original is None or hasattr(mine, "__signature__"):
                continue
            shown = inspect.signature(original)
            if isinstance(over, staticmethod) and isinstance(member, classmethod):  # onnxruntime 1.20's factories
                first = inspect.Parameter("cls", inspect.Parameter.POSITIONAL_ONLY)
                shown = shown.replace(parameters=[first, *shown.parameters.values()])
            mine.__signature__ = _joined(shown, inspect.signature(mine))  # type: ignore[attr-defined]
    return cls


def _function(member: Any) -> Callable[..., Any] | None:
    """The Python function behind a class's attribute; the extension's have no signature to show."""
    plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    return plain if inspect.isfunction(plain) else None


def _joined(theirs: inspect.Signature, ours: inspect.Signature) -> inspect.Signature:
    own = [p for name, p in ours.parameters.items() if name not in theirs.parameters and p.kind not in _VARIADIC]
    named = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.default is not p.empty]
    parameters = list(theirs.parameters.values())
    rest = [p for p in parameters if p.kind is p.VAR_KEYWORD]
    return theirs.replace(parameters=_in_order([*parameters[: len(parameters) - len(rest)], *named, *rest]))


def _in_order(parameters: Iterable[inspect.Parameter]) -> list[inspect.Parameter]:
    return sorted(parameters, key=lambda parameter: parameter.kind)
