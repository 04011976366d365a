"""Shapes and values of a model's inputs that decide which compiled variant runs, as a dictionary's key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["VariantKey", "kinds_of", "name_of", "shapes_of", "values_of", "variant_key"]

VariantKey = tuple[tuple[str, "tuple[int, ...] | str"], ...]
"""One compiled variant of a model: names of open inputs and their shapes, sorted by name; then names of inputs with
several pinned values, and the value as JSON text."""


def variant_key(shapes: Mapping[str, Sequence[int]], values: Mapping[str, str] | None = None) -> VariantKey:
    """A set of shapes and values as a key: equal sets give equal keys."""
    return (*sorted((name, tuple(shape)) for name, shape in shapes.items()), *sorted((values or {}).items()))


def shapes_of(key: VariantKey) -> dict[str, tuple[int, ...]]:
    """The shapes in a key, by the inputs' names."""
    return {name: one for name, one in key if not isinstance(one, str)}


def values_of(key: VariantKey) -> dict[str, str]:
    """The values in a key as JSON texts, by the inputs' names."""
    return {name: one for name, one in key if isinstance(one, str)}


def kinds_of(keys: Iterable[VariantKey]) -> str:
    """The word for what tells variants apart: ``shapes``, ``values`` or ``shapes and values``."""
    listed = list(keys)
    return " and ".join(
        word for word, found in (("shapes", shapes_of), ("values", values_of)) if any(map(found, listed))
    )


def name_of(key: VariantKey) -> str:
    """A key as users write it: ``x=1x3x48x320;ratio=0.25``."""
    return ";".join(f"{name}={_text(one)}" for name, one in key) or "the model"


def _text(one: tuple[int, ...] | str) -> str:
    return one if isinstance(one, str) else "x".join(map(str, one)) or "scalar"
