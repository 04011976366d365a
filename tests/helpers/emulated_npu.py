"""Segments for the npu device out of emulated models, and devices on the emulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ort_rknn.devices.base import SegmentCode, TensorSpec
from ort_rknn.devices.rknnrt.device import NpuDevice
from ort_rknn.devices.settings import NpuSettings
from tests.helpers.emulator import Emulator, Model, Tensor, compile_library

NATIVE = Path(__file__).resolve().parents[2] / "ort_rknn" / "native"


def build_native(*flags: str, compiler: str | None = None) -> Path:
    """The native library of this source tree (the installed one may be older)."""
    return compile_library(sorted(NATIVE.glob("*.c")), "lanes.so", *flags, compiler=compiler)


@dataclass(frozen=True)
class Bytes:
    """A blob in memory."""

    data: bytes
    path: str | None = None

    def read(self) -> bytes:
        return self.data


@dataclass(frozen=True)
class File:
    """A blob on disk that must not be read."""

    path: str

    def read(self) -> bytes:
        raise AssertionError("the file must be given by its path")


def spec(tensor: Tensor, dtype: str | None = None) -> TensorSpec:
    """How ONNX declares a tensor: float32 for what the NPU keeps as float16 or int8 with a scale."""
    kept = "float32" if tensor.dtype == "float16" or tensor.scale else tensor.dtype
    return TensorSpec(tensor.name, np.dtype(dtype or kept), tensor.shape)


def segment(model: Model, blob: Any = None, name: str = "segment", dtypes: dict[str, str] | None = None) -> SegmentCode:
    """An emulated model as a segment."""
    dtypes = dtypes or {}
    return SegmentCode(
        name=name,
        inputs=tuple(spec(tensor, dtypes.get(tensor.name)) for tensor in model.inputs),
        outputs=tuple(spec(tensor, dtypes.get(tensor.name)) for tensor in model.outputs),
        target=model.target,
        precision="fp16",
        rknn=blob or Bytes(model.data()),
        onnx=None,
    )


def feeds(code: SegmentCode, seed: int = 0) -> list[np.ndarray]:
    """Random arrays for a segment."""
    random = np.random.default_rng(seed)
    arrays = []
    for tensor in code.inputs:
        values = random.standard_normal(tensor.shape) * 8
        if tensor.dtype.kind == "u":
            values = np.abs(values)
        arrays.append(np.ascontiguousarray((values > 0) if tensor.dtype == np.bool_ else values).astype(tensor.dtype))
    return arrays


def npu(emulator: Emulator, **options: Any) -> NpuDevice:
    """The device on an emulator, on a machine that does not say what it is."""
    options.setdefault("target", "rk3588")
    return NpuDevice(NpuSettings(runtime_library=emulator.path, **options), root="/nowhere")


def same(got: Sequence[Any], expected: Sequence[np.ndarray]) -> None:
    """Assert that outputs are right, dtype and shape included."""
    assert len(got) == len(expected)
    for one, right in zip(got, expected, strict=True):
        assert (one.dtype, one.shape) == (right.dtype, right.shape)
        np.testing.assert_array_equal(one, right)
