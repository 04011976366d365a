"""Compiled models for the simulator that take a time of one's choice, made without a toolkit."""

from __future__ import annotations

from pathlib import Path

from ort_rknn_converters.pipeline.convert import convert
from tests.helpers.ort_models import model
from tests.helpers.toolkits.emulated import emulated_toolkit
from tests.helpers.toolkits.fake import fake_compile

__all__ = ["put_compiled", "put_emulated", "slow"]


def put_compiled(folder: Path, *names: str) -> Path:
    """Writes compiled forms of ``tests.helpers.ort_models`` into a folder, and gives it."""
    folder.mkdir(exist_ok=True)
    for name in names:
        compiled = convert(model(name), compile=fake_compile, known_failures=folder / "failures", min_gain=0.0)
        compiled.save(folder / f"{name}.onnx")
    return folder


def put_emulated(folder: Path, *names: str) -> Path:
    """Writes compiled forms for the emulated NPU into a folder, and gives it."""
    folder.mkdir(exist_ok=True)
    with emulated_toolkit(folder / "cache"):
        for name in names:
            convert(model(name), known_failures=folder / "failures", min_gain=0.0).save(folder / f"{name}.onnx")
    return folder


def slow(milliseconds: float, cores: int = 3, **more: object) -> dict[str, object]:
    """Provider options of a simulator whose inferences take so long."""
    return {"device": "simulator", "simulator_latency_ms": milliseconds, "simulator_cores": cores, **more}
