"""Resolution of a model: the compiled model and its device, or the reason for the CPU; and warnings that come once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.devices.base import Device
    from ort_rknn.opening.dynamic_shapes import CompiledForms, DynamicShapes
    from ort_rknn_converters.compiled.model import CompiledModel

__all__ = ["Resolution", "say_once"]

_said: set[str] = set()
_said_lock = threading.Lock()


@frozen
class Resolution:
    """Result of looking for a way to run a model.

    Attributes:
        compiled: The compiled model, or ``None`` when onnxruntime is to run the ONNX model as it is.
        device: What runs the compiled segments; ``None`` with ``compiled`` only.
        reason: Why there is no NPU part, in words; empty when there is one.
        shapes: Input name to compiled shape, where that was given.
        dims: Symbolic dimension to compiled size, where that was given.
        notes: More sentences for the plan.
        from_onnx: The session's model is plain ONNX, which onnxruntime alone could run too.
        dynamic: The input shapes are open: how variants of the model come to be, instead of ``compiled``.
        bundle: The file holds several compiled forms of the model, instead of ``compiled``.
    """

    compiled: CompiledModel | None = None
    device: Device | None = None
    target: str = ""
    reason: str = ""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    from_onnx: bool = False
    dynamic: DynamicShapes | None = None
    bundle: CompiledForms | None = None


def say_once(topic: str, sentence: str) -> None:
    """One warning per process and topic."""
    with _said_lock:
        if topic in _said:
            return
        _said.add(topic)
    logger().warning("%s", sentence)
