"""Runs the same code on onnxruntime and on ort_rknn and says where they differ."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["CASES", "Bench", "Outcome", "case", "cases", "outcome"]

RKNN = "RKNNExecutionProvider"


@dataclass
class Bench:
    """What a case works with.

    Attributes:
        ort: The module under test.
        providers: Its provider list for this flow.
        folder: Where a case may write files.
    """

    ort: ModuleType
    providers: Sequence[Any]
    folder: str = "."

    def open(self, model: Any, sess_options: Any = None, **kwargs: Any) -> Any:
        """A session on this flow's providers."""
        return self.ort.InferenceSession(model, sess_options, providers=self.providers, **kwargs)


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        value: What it returned, in a form that can be compared.
        error: The exception's class and text.
        warned: The warnings it gave.
    """

    value: Any = None
    error: tuple[str, str] | None = None
    warned: tuple[str, ...] = ()

    def without_numbers(self) -> Outcome:
        """The same with the content of arrays and numbers left out: for devices that make them up."""
        return Outcome(_no_numbers(self.value), self.error, self.warned)


Case = Callable[[Bench], Any]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Enter a function as a case under its own name."""
    assert function.__name__ not in CASES, function.__name__
    CASES[function.__name__] = function
    return function


def cases(group: str, table: Mapping[str, Case]) -> None:
    """Enter a table of cases."""
    for name, function in table.items():
        key = f"{group}-{name}"
        assert key not in CASES, key
        CASES[key] = function


def outcome(function: Case, bench: Bench) -> Outcome:
    """Run a case and write down how it ended."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = function(bench)
        except Exception as error:
            ended = Outcome(error=(_class(error), _text(str(error))))
        else:
            ended = Outcome(value=_plain(value))
    return Outcome(ended.value, ended.error, tuple(_text(str(item.message)) for item in caught))


def _class(error: Exception) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _text(text: str) -> str:
    """The text without addresses, places in source code and our provider's name."""
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    text = re.sub(r"<generator object \S+ at", "<generator object at", text)
    text = re.sub(r"/\S+?/onnxruntime/core/\S+? ", "<src> ", text)
    text = re.sub(r"<ort_rknn\S+ object", "<object", re.sub(r"<onnxruntime\S+ object", "<object", text))
    text = re.sub(r"onnxruntime\.capi\.onnxruntime_pybind11_state\.Sessio\w*", "SessionOptions", text)
    text = text.replace("module 'ort_rknn' has", "module 'onnxruntime' has")
    return re.sub(rf"{RKNN}, (RKNPU2ExecutionProvider, )?", "", text)


def _plain(value: Any) -> Any:
    """A value that ``==`` compares by content, type and layout."""
    if isinstance(value, np.ndarray):
        flags = (value.flags.c_contiguous, value.flags.writeable)
        return ("array", value.dtype.str, value.shape, value.tolist(), *flags)
    if isinstance(value, np.generic):
        return ("scalar", value.dtype.str, value.item())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, int, float, bytes, bool)) or value is None:
        return value
    return _text(str(value))


def _no_numbers(value: Any) -> Any:
    if isinstance(value, tuple) and value and value[0] == "array":
        return (*value[:3], None, *value[4:])
    if isinstance(value, tuple) and value and value[0] == "scalar":
        return value[:2]
    if isinstance(value, Mapping):
        return {key: _no_numbers(item) for key, item in value.items()}
    return [_no_numbers(item) for item in value] if isinstance(value, list) else value
