"""The shapes of a model's open inputs as a dictionary's key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["ShapeKey", "name_of", "shape_key"]

ShapeKey = tuple[tuple[str, tuple[int, ...]], ...]
"""Input names and their shapes, sorted by name: one compiled variant of a model."""


def shape_key(shapes: Mapping[str, Sequence[int]]) -> ShapeKey:
    """A set of shapes as a key: equal sets give equal keys."""
    return tuple(sorted((name, tuple(shape)) for name, shape in shapes.items()))


def name_of(key: ShapeKey) -> str:
    """A key as users write it: ``x=1x3x48x320;mask=1x77``."""
    return ";".join(f"{name}={'x'.join(map(str, shape)) or 'scalar'}" for name, shape in key) or "the model"
