"""Sessions and bindings whose inputs and outputs are in the memory of the emulated NPU."""

from __future__ import annotations

from typing import Any

import numpy as np

import ort_rknn
from ort_rknn import OrtValue
from tests.helpers.emulated_npu import npu
from tests.helpers.emulator import REAL, Emulator, real_path

IMAGE = "image_fp16_rk3588"
SHAPES = {"x": (1, 3, 6, 5), "y": (1, 4, 6, 5), "z": (1, 4)}


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPES["x"]).astype(np.float32) * 8


def right(x: np.ndarray) -> list[np.ndarray]:
    return REAL[IMAGE].answer([x])


def image_session(emulator: Emulator, **options: Any) -> Any:
    providers = [("RKNNExecutionProvider", options)] if options else None
    return ort_rknn.InferenceSession(real_path(IMAGE), providers=providers, device=npu(emulator))


def value(name: str, **how: Any) -> Any:
    return OrtValue.ortvalue_from_shape_and_type(SHAPES[name], np.float32, "npu", **how)


def all_on_npu(session: Any) -> tuple[Any, Any]:
    """A binding with everything in NPU memory, and its input."""
    binding, x = session.io_binding(), value("x")
    binding.bind_ortvalue_input("x", x)
    binding.bind_output("y", "npu")
    binding.bind_output("z", "npu")
    return binding, x
