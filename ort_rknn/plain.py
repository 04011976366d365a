"""The asynchronous verbs for models that run on onnxruntime alone: the whole model as one CPU step of an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ort_rknn.engine.engine import Engine
from ort_rknn.engine.options import EngineOptions
from ort_rknn.program import CpuPart, Program

__all__ = ["owned_feed", "plain_engine"]


class _WholeModel:
    """A native session that takes whatever inputs were fed; absent optional ones are not passed on."""

    def __init__(self, native: Any) -> None:
        self._native = native

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None) -> Any:
        feed = {name: value for name, value in input_feed.items() if value is not None}
        return self._native.run(list(output_names or ()), feed, run_options)


def plain_engine(native: Any, options: EngineOptions | None = None) -> Engine:
    """An engine over a native onnxruntime session.

    Args:
        native: The session.
        options: The engine's habits; its defaults when ``None``.
    """
    inputs = tuple(argument.name for argument in (*native.inputs_meta, *native.overridable_initializers))
    outputs = tuple(argument.name for argument in native.outputs_meta)
    part = CpuPart("onnxruntime", inputs, outputs, _WholeModel(native))
    return Engine(Program.from_parts([part], None, outputs=outputs), options or EngineOptions())


def owned_feed(native: Any, feed: Mapping[str, Any]) -> dict[str, Any]:
    """The feed with its arrays copied, so that the caller may overwrite them, and ``None`` for what is not fed."""
    names = [argument.name for argument in (*native.inputs_meta, *native.overridable_initializers)]
    values = {name: None for name in names} | dict(feed)
    return {name: np.array(value) if isinstance(value, np.ndarray) else value for name, value in values.items()}
