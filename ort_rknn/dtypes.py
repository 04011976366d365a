"""onnxruntime's type strings in numpy's words."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["DTYPES", "numpy_dtype"]

DTYPES: dict[str, str] = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
}
"""onnxruntime's type strings of tensors that numpy has a dtype for, and its name."""


def numpy_dtype(type_string: str) -> np.dtype[Any] | None:
    """The numpy dtype of one of onnxruntime's type strings; ``None`` where there is none (strings, sequences ...)."""
    name = DTYPES.get(type_string)
    return None if name is None else np.dtype(name)
