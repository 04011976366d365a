"""A case: one model and the feeds it is run on. Sources make them, the runner runs them, nothing else knows both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Case", "CaseError", "Feed"]

Feed = Mapping[str, Any]
"""Input name -> value: an ndarray, or what onnxruntime takes for a sequence, map or optional."""


class CaseError(ValueError):
    """Raised when a model or its data cannot be used; the message is one line that says why and what is expected."""


@dataclass(frozen=True)
class Case:
    """One model with one or more samples.

    Attributes:
        name: Unique in its source, e.g. ``node/test_conv_with_strides_padding``.
        model: A path, or the model's bytes.
        feeds: The samples, at least one.
        reference: The model that CPU onnxruntime runs instead, where ``model`` is not one it can run.
    """

    name: str
    model: str | bytes
    feeds: tuple[Feed, ...]
    reference: str | bytes | None = None
