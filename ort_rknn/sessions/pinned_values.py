"""Compares the values of a feed with those that compiled code takes for constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ort_rknn_converters.util.log import logger

__all__ = ["PinnedValues"]

_SHOWN = 60
"""Characters of a value in a message."""


class PinnedValues:
    """Sets of input values that there is NPU code for. What a call feeds decides which of them it takes.

    Args:
        sets: Input name -> JSON text.
        dtypes: Numpy's dtype of each input; inputs without one are not compared.
        warn: Say once which call has other values and therefore runs on the CPU.
    """

    def __init__(
        self, sets: Sequence[Mapping[str, str]], dtypes: Mapping[str, np.dtype[Any] | None], *, warn: bool = True
    ) -> None:
        self._warn = warn
        if not any(sets):
            self._sets: tuple[tuple[Mapping[str, str], dict[str, Any]], ...] = ()
            return
        from ort_rknn_converters.pinned_values import pinned_array

        self._sets = tuple(
            (one, {name: pinned_array(text, dtype) for name, text in one.items() if (dtype := dtypes.get(name))})
            for one in sets
        )

    def __bool__(self) -> bool:
        return bool(self._sets)

    def choose(self, feed: Mapping[str, Any]) -> Mapping[str, str] | None:
        """The set that a feed has the values of; ``None`` for other values. What is not fed is not compared."""
        given: dict[str, Any] = {}
        for texts, values in self._sets:
            if all(_equal(_fed(given, feed, name, value), value) for name, value in values.items()):
                return texts
        if self._warn:
            self._warn = False
            for name, value in self._sets[0][1].items():
                _fed(given, feed, name, value)  # what was not looked at, because another input decided
            self._say(given)
        return None

    def _say(self, given: Mapping[str, Any]) -> None:
        """The input whose value is in no set; all of them where only the combination is in none."""
        known = {name: {texts[name]: values[name] for texts, values in self._sets} for name in self._sets[0][1]}
        strange = (
            name for name, values in known.items() if not any(_equal(given[name], one) for one in values.values())
        )
        named = [*islice(strange, 1)] or [name for name in known if given[name] is not None]
        said = " and ".join(f"{name} is {_short(str(given[name].tolist()))}" for name in named)
        made = dict.fromkeys(_short(_made(texts, named)) for texts, _ in self._sets)
        logger().warning(
            "input%s %s, and the NPU code was made for %s (option values): such calls run on the CPU",
            "" if len(named) == 1 else "s",
            said,
            " or ".join(made),
        )


def _made(texts: Mapping[str, str], named: Sequence[str]) -> str:
    return texts[named[0]] if len(named) == 1 else ";".join(f"{name}={texts[name]}" for name in named)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _fed(given: dict[str, Any], feed: Mapping[str, Any], name: str, value: np.ndarray[Any, Any]) -> Any:
    """An input's array in a feed, in the input's element type; read once, as it may lie in another memory."""
    if name not in given:
        fed = feed.get(name)
        if fed is not None and not isinstance(fed, np.ndarray):
            numpy = getattr(fed, "numpy", None)  # a method of onnxruntime's OrtValue objects
            fed = np.asarray(numpy() if callable(numpy) else fed)
        given[name] = fed if fed is None else fed.astype(value.dtype, copy=False)
    return given[name]


def _equal(given: np.ndarray[Any, Any] | None, value: np.ndarray[Any, Any]) -> bool:
    """Equal in every element; one number stands for all of them."""
    if given is None:
        return True
    return bool(np.all(given == value)) if value.size == 1 else np.array_equal(given, value)
