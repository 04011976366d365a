"""Values of inputs that a conversion takes for constants, as canonical JSON text: equal values give equal text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn_converters.errors import UnknownOption
from ort_rknn_converters.util.foreign_text import shown
from ort_rknn_converters.util.plain_data import parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["pinned_array", "pinned_text"]

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


def pinned_array(text: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The value in an input's element type."""
    return np.asarray(json.loads(text)).astype(dtype)
