"""Shapes or values given as lists by input: which of them belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ort_rknn_converters.errors import UnknownOption

__all__ = ["every_shape", "sets_of", "shape_sets"]

Item = TypeVar("Item")


def shape_sets(shapes: Mapping[str, Sequence[tuple[int, ...]]]) -> tuple[dict[str, tuple[int, ...]], ...]:
    """The sets of shapes that lists by input mean: the first of each input, the second of each, and so on.

    An input with one shape has it in every set. Equal sets are kept once; without any shape there is one empty set.

    Raises:
        UnknownOption: Two inputs list several shapes, and not equally many.
    """
    return sets_of(shapes, "shapes")


def sets_of(given: Mapping[str, Sequence[Item]], what: str) -> tuple[dict[str, Item], ...]:
    """The sets that lists by input mean: the first of each input, the second of each, and so on.

    Args:
        given: Input name -> what is listed for it.
        what: Word for the items, of which an error speaks.

    Raises:
        UnknownOption: Two inputs list several, and not equally many.
    """
    counts = {name: len(listed) for name, listed in given.items() if len(listed) > 1}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UnknownOption(f"inputs with several {what} need equally many, one for each set; given: {said}")
    number = next(iter(counts.values()), 1)
    sets = [{name: listed[min(at, len(listed) - 1)] for name, listed in given.items()} for at in range(number)]
    return tuple(one for at, one in enumerate(sets) if one not in sets[:at])


def every_shape(shapes: Mapping[str, Any]) -> dict[str, list[tuple[int, ...]]]:
    """Shapes by input where some values are one shape and others lists of them, all as lists."""
    found = {}
    for name, value in shapes.items():
        many = bool(value) and not all(hasattr(dim, "__index__") for dim in value)
        found[name] = [tuple(dims) for dims in value] if many else [tuple(value)]
    return found
