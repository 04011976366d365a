"""Values of inputs that a conversion takes for constants, as canonical JSON text: equal values give equal text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn_converters.errors import UnknownOption
from ort_rknn_converters.shape_sets import sets_of
from ort_rknn_converters.util.foreign_text import shown
from ort_rknn_converters.util.plain_data import parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["pinned_array", "pinned_text", "pinned_texts", "value_sets"]

_LARGEST = 4096
"""Elements of a pinned value: switches, ratios, sizes; weights belong into the model. A guess."""

_LONGEST = 1 << 18  # characters of the text of one


def pinned_text(name: str, value: Any) -> str:
    """A user's value as JSON text.

    Args:
        name: The input's name.
        value: A number, a truth value, an array or nested lists of them, or the text of one.

    Raises:
        UnknownOption: It is none of these, or larger than anything that shapes hang on.
    """
    wanted = f"values[{name!r}] is a number, true or false, or nested lists of those"
    if isinstance(value, str):
        try:
            value = parse_json(value.strip().lower(), most=_LONGEST)
        except ValueError:
            raise UnknownOption(f"{wanted}, not {shown(value)!r}") from None
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        raise UnknownOption(f"{wanted} of equal lengths, not {shown(value)!r}") from None
    if array.dtype.kind not in "biuf" or array.size > _LARGEST:
        raise UnknownOption(f"{wanted} of at most {_LARGEST} elements, not {shown(value)!r}")
    return json.dumps(array.tolist())


def pinned_texts(name: str, value: Any) -> tuple[str, ...]:
    """One or several values of an input as JSON texts: text may list several, ``0.25,0.5``.

    Nested lists stay as they are: whether they are one value or several, the shape of the input says.

    Raises:
        UnknownOption: As for :func:`pinned_text`.
    """
    if isinstance(value, str):
        try:
            several = parse_json(f"[{value.strip().lower()}]", most=_LONGEST)
        except ValueError:
            several = ()
        if len(several) > 1:
            return tuple(pinned_text(name, one) for one in several)
    return (pinned_text(name, value),)


def value_sets(
    values: Mapping[str, Sequence[str]], inputs: Mapping[str, tuple[int | str | None, ...] | None]
) -> tuple[dict[str, str], ...]:
    """The sets of values that several values by input mean: the first of each input, the second of each, and so on.

    A list that an input of its shape can be is one value; another one lists several. An input with one value has it in
    every set. Without any value there is one empty set.

    Args:
        values: Input name -> JSON texts.
        inputs: Dimensions of the model's inputs, as far as they are known.

    Raises:
        UnknownOption: Two inputs have several values, and not equally many; or a value does not fit its input.
    """
    found = {
        name: [one for text in texts for one in _alternatives(name, text, inputs)] for name, texts in values.items()
    }
    return sets_of(found, "values")


def _alternatives(name: str, text: str, inputs: Mapping[str, tuple[int | str | None, ...] | None]) -> list[str]:
    value = json.loads(text)
    dims = inputs.get(name)
    if dims is None or _fits(np.asarray(value), dims):
        return [text]
    if isinstance(value, list) and value and all(_fits(np.asarray(one), dims) for one in value):
        return [json.dumps(one) for one in value]
    shape = [dim if isinstance(dim, int) else "?" for dim in dims]
    raise UnknownOption(
        f"values[{name!r}] has shape {list(np.shape(value))}, and the input {shape}. Several values are listed, each in"
        f' the shape of the input or as one number: "{name}=0.25,0.5", or a list of them'
    )


def _fits(array: NDArray[Any], dims: tuple[int | str | None, ...]) -> bool:
    """Whether an input can have this value; one number stands for all elements."""
    if array.ndim == 0:
        return True
    known = zip(array.shape, dims, strict=False)
    return array.ndim == len(dims) and all(not isinstance(dim, int) or dim == size for size, dim in known)


def pinned_array(text: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The value in an input's element type."""
    return np.asarray(json.loads(text)).astype(dtype)
