"""ONNX in, compiled model out: everything between a model file and code for the NPU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ort_rknn_converters.cache.store import load_or_convert
    from ort_rknn_converters.compiled.model import CompiledModel, is_compiled
    from ort_rknn_converters.compiled.values import CpuStep, NpuStep
    from ort_rknn_converters.errors import (
        CalibrationError,
        CompiledModelError,
        ConvertError,
        ModelError,
        NotAllOnNpu,
        ToolkitFailed,
        ToolkitMissing,
        UnknownOption,
        UnknownTarget,
        VerificationFailed,
    )
    from ort_rknn_converters.options import ConvertOptions
    from ort_rknn_converters.partition.plan import NodePlacement, Plan, Segment
    from ort_rknn_converters.pipeline.convert import convert, plan_only
    from ort_rknn_converters.progress import Progress
    from ort_rknn_converters.targets import TARGETS, Target, find_target
    from ort_rknn_converters.tensor_info import TensorInfo

__all__ = [
    "TARGETS",
    "CalibrationError",
    "CompiledModel",
    "CompiledModelError",
    "ConvertError",
    "ConvertOptions",
    "CpuStep",
    "ModelError",
    "NodePlacement",
    "NotAllOnNpu",
    "NpuStep",
    "Plan",
    "Progress",
    "Segment",
    "Target",
    "TensorInfo",
    "ToolkitFailed",
    "ToolkitMissing",
    "UnknownOption",
    "UnknownTarget",
    "VerificationFailed",
    "convert",
    "find_target",
    "is_compiled",
    "load_or_convert",
    "plan_only",
]

_HOMES = {
    "cache.store": ("load_or_convert",),
    "compiled.model": ("CompiledModel", "is_compiled"),
    "compiled.values": ("CpuStep", "NpuStep"),
    "pipeline.convert": ("convert", "plan_only"),
    "errors": (
        "CalibrationError",
        "CompiledModelError",
        "ConvertError",
        "ModelError",
        "NotAllOnNpu",
        "ToolkitFailed",
        "ToolkitMissing",
        "UnknownOption",
        "UnknownTarget",
        "VerificationFailed",
    ),
    "options": ("ConvertOptions",),
    "partition.plan": ("NodePlacement", "Plan", "Segment"),
    "progress": ("Progress",),
    "tensor_info": ("TensorInfo",),
    "targets": ("TARGETS", "Target", "find_target"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOME[name] != "pipeline.convert":
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    from ort_rknn_converters.extras import demand_complete
    from ort_rknn_converters.util.lazy_imports import defer_sympy

    demand_complete("converting a model")
    with defer_sympy():
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
