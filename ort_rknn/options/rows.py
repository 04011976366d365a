"""Rows of the table of provider options: how a value is read, what it does, and whose default it has."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import MISSING, Field, field
from typing import Any, TypeVar

from ort_rknn.errors import InvalidOption
from ort_rknn.options.parsers import Parser
from ort_rknn_converters.util.frozen import frozen, rows_of

__all__ = ["Option", "option", "refuse_unknown", "unsaid", "with_defaults"]

T = TypeVar("T")


@frozen
class Option:
    """One row of the table.

    Attributes:
        name: The option's key.
        parse: Reads a user's value.
        default: The value when nothing is said.
        source: Where the default comes from.
        doc: What it does, in one line.
        env: Environment variable that gives the default, or ``""``.
    """

    name: str
    parse: Parser
    default: Any
    source: str
    doc: str
    env: str = ""


def option(default: Any, parse: Parser, source: str, doc: str, env: str = "") -> Any:
    """A row; ``default`` is a value, or the class whose field of the same name has it."""
    meta = {"parse": parse, "source": source, "doc": doc, "env": env}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=meta)
    return field(default=default, metadata=meta)


def with_defaults(cls: type[T]) -> type[T]:
    """Puts the defaults of the classes that use the options into their rows, so that each default stands once."""
    for name, row in list(vars(cls).items()):
        user: Any = row.default if isinstance(row, Field) else None
        if not isinstance(user, type):
            continue
        own = rows_of(user)[name]
        made = isinstance(own, Field) and own.default_factory is not MISSING
        default = own.default if isinstance(own, Field) else own
        given = {"default_factory": own.default_factory} if made else {"default": default}
        setattr(cls, name, field(metadata=row.metadata, **given))
    return cls


def refuse_unknown(names: Iterable[str], known: Collection[str], where: str) -> None:
    """Raises for names that are no options.

    Raises:
        InvalidOption: There is such a name; the known ones are listed.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidOption(
            f"unknown RKNNExecutionProvider option {', '.join(map(repr, unknown))}{where}. "
            f"Known options: {', '.join(known)}"
        )


def unsaid(value: Any) -> bool:
    """Whether a value stands for "not given"."""
    return value is None or (isinstance(value, str) and not value.strip())
