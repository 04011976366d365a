"""``@frozen``: what ``dataclasses.dataclass(frozen=True)`` makes, without generating code for each class.

The standard decorator compiles six methods a class, 0.3 ms on a PC; the fifty classes that a start from the cache reads
took longer than all else it does (measured). Here these methods are the same functions for every class; an instance
takes up to 1 us longer to make. The rest is the standard library's: ``field``, ``fields``, ``replace``, ``asdict`` and
``__post_init__`` work as they do there.
"""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["frozen"]

T = TypeVar("T")

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        """For type checkers only; Python 3.10 has none."""
        return lambda function: function


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make a class of annotated fields a value: immutable, equal by its fields, hashable.

    Methods that the class has itself stay. All fields are arguments of the constructor; ``kw_only`` and ``InitVar`` are
    not known here.
    """
    methods = {name: method for name, method in _METHODS.items() if vars(cls).get(name) is None}
    dataclass(init=False, repr=False, eq=False)(cls)
    rows = fields(cls)  # type: ignore[arg-type]
    defaults = {row.name: row.default for row in rows if row.default is not MISSING}
    compared = attrgetter(*(row.name for row in rows if row.compare))
    for name, found in {"_frozen_defaults": defaults, "_frozen_compared": compared, **methods}.items():
        setattr(cls, name, found)
    return cls


def _init(self: Any, /, *given: Any, **named: Any) -> None:
    names = self.__match_args__
    all_given = len(given) == len(names) and not named
    vars(self).update(zip(names, given) if all_given else _completed(self, given, named))  # noqa: B905 - see there
    settle = getattr(self, "__post_init__", None)
    if settle is not None:
        settle()


def _completed(self: Any, given: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """The value of each field, in the order of the fields.

    Raises:
        TypeError: A field is missing, unknown or given twice.
    """
    what, names, defaults = type(self).__qualname__, self.__match_args__, self._frozen_defaults
    if len(given) > len(names):
        raise TypeError(f"{what}() takes {len(names)} arguments, not {len(given)}")
    values = dict(zip(names, given))  # noqa: B905 - the rest follows
    for name in named:
        if name in values:
            raise TypeError(f"{what}() got multiple values for argument {name!r}")
        if name not in names:
            raise TypeError(f"{what}() got an unexpected keyword argument {name!r}")
    for name in names[len(given) :]:
        if name in named:
            values[name] = named[name]
        elif name in defaults:
            values[name] = defaults[name]
        else:
            factory = self.__dataclass_fields__[name].default_factory
            if factory is MISSING:
                raise TypeError(f"{what}() missing the argument {name!r}")
            values[name] = factory()
    return values


def _repr(self: Any) -> str:
    shown = ", ".join(f"{row.name}={getattr(self, row.name)!r}" for row in fields(self) if row.repr)
    return f"{type(self).__qualname__}({shown})"


def _eq(self: Any, other: object) -> bool:
    compared = self._frozen_compared
    return compared(self) == compared(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(self._frozen_compared(self))


class _Signature:
    """Constructor's signature for ``help``, found when it is asked for."""

    def __get__(self, value: object, kind: Any) -> Any:
        from inspect import Parameter, Signature

        rows = []
        for row in fields(kind):
            default = Parameter.empty if row.default is MISSING else row.default
            if row.default_factory is not MISSING:
                default = row.default_factory()
            rows.append(Parameter(row.name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=row.type))
        return Signature(rows)


def _setattr(self: Any, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


_METHODS = {
    "__init__": _init,
    "__signature__": _Signature(),
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
}
