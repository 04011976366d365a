"""A case (a model and the feeds it is run on) and the settings of a run. Sources make cases, the runner runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ort_rknn_converters.targets import DEFAULT_TARGET
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Case", "CaseError", "Feed", "Settings", "one_line"]

Feed = Mapping[str, Any]
"""Input name -> value: an ndarray, or what onnxruntime takes for a sequence, map or optional."""


class CaseError(ValueError):
    """Raised when a model or its data cannot be used; the message is one line that says why and what is expected."""


@frozen
class Case:
    """One model with one or more samples.

    Attributes:
        name: Unique in its source, e.g. ``node/test_conv_with_strides_padding``.
        model: A path, or the model's bytes.
        feeds: The samples, at least one.
        reference: The model that CPU onnxruntime runs instead, where ``model`` is not one it can run.
        shapes: Input name -> the shape to compile for, where the model leaves it open.
        labels: The right class of each sample; empty when not known.
    """

    name: str
    model: str | bytes
    feeds: tuple[Feed, ...]
    reference: str | bytes | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    labels: tuple[int, ...] = ()


@frozen
class Settings:
    """Settings shared by all cases of a run.

    Attributes:
        target: SoC name.
        precision: ``fp16`` ...
        tolerance: Largest relative RMS for every floating-point output; ``None``: by precision.
        min_gain: The planner's cost rule; 0 (off) puts every node on the NPU that can be there, however small.
        cache_dir: Where compiled models are kept; ``None``: the user's cache directory.
        cpu_nodes: Nodes that must stay on the CPU.
        calibration: Path of the data that int8 and w4a16 are calibrated on.
        preprocess: How images among them become inputs.
        closely: Keep the graph with the places of its nodes, for the picture.
        options: More provider options, which go before the others.
        stable: Run the reference twice and leave out cases that answer differently each time (random ops).
    """

    target: str = DEFAULT_TARGET
    precision: str = "fp16"
    tolerance: float | None = None
    min_gain: float = 0.0
    cache_dir: str | None = None
    cpu_nodes: frozenset[str] = frozenset()
    calibration: str | None = None
    preprocess: str = ""
    closely: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    stable: bool = False


def one_line(error: BaseException) -> str:
    """The first line of an exception's text that says something."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)
