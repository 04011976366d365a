"""The one feed a benchmark replays: random, or read from ``.npy``, ``.npz`` or headerless ``.bin``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn.ort_conventions import numpy_dtype
from ort_rknn_converters.util.frozen import frozen

__all__ = ["FeedError", "Need", "needs", "random_feed", "read_feed", "with_values"]

Array = NDArray[Any]


class FeedError(ValueError):
    """Raised when a feed cannot be made; says why in one line."""


@frozen
class Need:
    """An input at the size it is fed with.

    Attributes:
        name: Its name.
        dtype: numpy's type.
        shape: Dimensions, all known.
        declared: Dimensions as the model declares them: ``None`` where any size is taken.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    declared: tuple[int | None, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of one array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.name} ({self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'})"


def needs(
    inputs: Sequence[Any], shapes: Mapping[str, Sequence[int]] | None = None, dims: Mapping[str, int] | None = None
) -> tuple[Need, ...]:
    """The inputs at fixed sizes: what was said, else what the model says, else 1.

    Args:
        inputs: What ``get_inputs()`` of a session gives.
        shapes: Input name to dimensions.
        dims: Symbolic dimension to size.

    Raises:
        FeedError: An input is no tensor of numbers.
    """
    shapes, dims = shapes or {}, dims or {}
    found = []
    for argument in inputs:
        dtype = numpy_dtype(argument.type)
        if dtype is None:
            raise FeedError(f"input {argument.name!r} is a {argument.type}: only tensors of numbers can be measured")
        free = tuple(dim if isinstance(dim, int) else None for dim in argument.shape)
        sizes = tuple(dim if isinstance(dim, int) else dims.get(dim, 1) for dim in argument.shape)
        found.append(Need(argument.name, dtype, tuple(shapes.get(argument.name, sizes)), free))
    return tuple(found)


def random_feed(wanted: Sequence[Need], seed: int = 0) -> dict[str, Array]:
    """Random arrays: floats from 0 to 1, whole numbers 0 or 1 (which are valid as positions in anything)."""
    random = np.random.default_rng(seed)
    return {
        need.name: np.asarray(
            random.random(need.shape) if need.dtype.kind == "f" else random.integers(0, 2, need.shape)
        ).astype(need.dtype)
        for need in wanted
    }


def with_values(feed: Mapping[str, Array], values: Mapping[str, str]) -> dict[str, Array]:
    """A feed with the values that NPU code takes for constants: calls with other values run on the CPU.

    Args:
        feed: Arrays of the sizes wanted.
        values: Input name -> pinned value as JSON text, as a session's plan has them.
    """
    from ort_rknn_converters.pinned_values import pinned_array

    pinned = {name: pinned_array(text, feed[name].dtype) for name, text in values.items() if name in feed}
    return {**feed, **{name: np.broadcast_to(array, feed[name].shape).copy() for name, array in pinned.items()}}


def read_feed(path: Path, wanted: Sequence[Need]) -> dict[str, Array]:
    """Read a feed.

    Args:
        path: ``.npz`` with an array for each input, ``.npy`` for a model with one input, or ``.bin``: the bytes of the
            inputs one after the other, without any header.
        wanted: The inputs.

    Raises:
        FeedError: The file cannot be read, or does not hold what the inputs take.
    """
    from ort_rknn_converters.array_files import read_array, read_arrays
    from ort_rknn_converters.util.own_files import read_regular

    try:
        if path.suffix == ".bin":
            return _split(path, read_regular(path, sum(need.nbytes for need in wanted)), wanted)
        if path.suffix == ".npy":
            if len(wanted) != 1:
                raise FeedError(f"{path}: a .npy holds one array, and the model has {len(wanted)} inputs: give a .npz")
            return {wanted[0].name: _checked(path, read_array(path), wanted[0])}
        if path.suffix == ".npz":
            file = read_arrays(path)
            missing = [need.name for need in wanted if need.name not in file]
            if missing:
                held = ", ".join(file) or "nothing"
                raise FeedError(f"{path} holds {held}, but nothing for {', '.join(missing)}")
            return {need.name: _checked(path, file[need.name], need) for need in wanted}
    except FeedError:
        raise
    except OSError as error:
        raise FeedError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise FeedError(f"{path} cannot be read: {error}") from error
    raise FeedError(f"{path}: inputs come from .npy, .npz or .bin files")


def _checked(path: Path, array: Array, need: Need) -> Array:
    """The array, if the input takes it; of the input's own type and in C order."""
    fits = len(array.shape) == len(need.declared) and all(
        size in (None, got) for size, got in zip(need.declared, array.shape, strict=True)
    )
    if array.dtype.newbyteorder("=") != need.dtype or not fits:
        held = f"{array.dtype} {'x'.join(map(str, array.shape)) or 'scalar'}"
        raise FeedError(f"{path} holds {held}, but the model takes {need}")
    return np.ascontiguousarray(array, need.dtype).reshape(array.shape)


def _split(path: Path, data: bytes, wanted: Sequence[Need]) -> dict[str, Array]:
    size = sum(need.nbytes for need in wanted)
    if len(data) != size:
        raise FeedError(f"{path} has {len(data)} bytes, but {', '.join(map(str, wanted))} takes {size}")
    feed, start = {}, 0
    for need in wanted:
        flat = np.frombuffer(data, need.dtype, math.prod(need.shape), start)
        feed[need.name] = flat.reshape(need.shape).copy()
        start += need.nbytes
    return feed
