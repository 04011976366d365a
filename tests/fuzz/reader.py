"""A reader as the fuzzing sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from pathlib import Path

from ort_rknn.errors import RknnError
from ort_rknn_converters.errors import ConvertError
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Reader"]


@frozen
class Reader:
    """A reader and what it is fed.

    Attributes:
        name: For messages.
        read: Reads bytes; it may put them into the folder it is given.
        seeds: Sound inputs, which are mutated.
        raises: What else it may raise: what its callers expect of it.
    """

    name: str
    read: Callable[[bytes, Path], object]
    seeds: tuple[bytes, ...] = field(repr=False)
    raises: tuple[type[Exception], ...] = ()

    def allowed(self) -> tuple[type[Exception], ...]:
        """Errors of our own, and those of this reader."""
        return (ConvertError, RknnError, *self.raises)
