"""onnxruntime's conventions: provider names, type strings, and the form of its errors' texts."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "CPU_PROVIDER",
    "DTYPES",
    "RKNN_PROVIDER",
    "RKNN_PROVIDERS",
    "TRUE_WORDS",
    "has_providers",
    "is_rknn",
    "numpy_dtype",
    "ort_error",
    "status_text",
]


TRUE_WORDS = frozenset({"1", "true", "on", "yes"})
"""What sets a flag in options and environment variables, in any case."""

_CODES = {
    "Fail": (1, "FAIL"),
    "InvalidArgument": (2, "INVALID_ARGUMENT"),
    "NoSuchFile": (3, "NO_SUCHFILE"),
    "InvalidProtobuf": (7, "INVALID_PROTOBUF"),
    "NotImplemented": (9, "NOT_IMPLEMENTED"),
    "InvalidGraph": (10, "INVALID_GRAPH"),
    "ModelRequiresCompilation": (13, "MODEL_REQUIRES_COMPILATION"),
}
_PREFIX = "[ONNXRuntimeError]"


def ort_error(name: str, message: str) -> Exception:
    """An instance of onnxruntime's exception class ``name`` whose text has onnxruntime's form."""
    from ort_rknn.ort_private.errors import error_class
    from ort_rknn_converters.util.foreign_text import shown_lines

    code, constant = _CODES[name]
    error: Exception = error_class(name)(f"{_PREFIX} : {code} : {constant} : {shown_lines(message)}")
    return error


def status_text(error: BaseException) -> str | None:
    """The bare text of one of onnxruntime's typed errors, as ``run_async`` gives it to its callback.

    Returns:
        The text without ``[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : `` in front, or ``None`` when ``error`` is not a
        typed error of onnxruntime (those are raised at the call).
    """
    text = str(error)
    parts: list[Any] = text.split(" : ", 3)
    if isinstance(error, RuntimeError | ValueError | TypeError) or len(parts) != 4 or parts[0] != _PREFIX:
        return None
    bare = str(parts[3])
    unspaced = "Invalid output name:"  # onnxruntime itself writes the two forms
    if bare.startswith(unspaced) and not bare.startswith(unspaced + " "):
        bare = f"{unspaced} {bare[len(unspaced) :]}"
    return bare


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


RKNN_PROVIDER = "RKNNExecutionProvider"
"""Ours. (``RknpuExecutionProvider`` is onnxruntime's own, for a chip of 2020, and means something else.)"""

RKNN_PROVIDERS = (RKNN_PROVIDER, "RKNPU2ExecutionProvider")
"""The name and its alias."""

CPU_PROVIDER = "CPUExecutionProvider"


def is_rknn(name: object) -> bool:
    """Whether ``name`` means this package's provider."""
    return name in RKNN_PROVIDERS


def has_providers(options: Any) -> bool:
    """Whether providers were added to session options (``None`` has none).

    Raises:
        AttributeError: ``options`` are no session options, in the words of onnxruntime, which asks the same.
    """
    if options is None:
        return False
    try:
        return bool(options.has_providers())
    except AttributeError:  # before onnxruntime 1.23 only ours are known
        return options._rknn_provider is not None
