"""onnxruntime's exception classes and the exact form of their texts."""

from __future__ import annotations

from typing import Any

__all__ = ["ort_error", "status_text"]

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

    code, constant = _CODES[name]
    error: Exception = error_class(name)(f"{_PREFIX} : {code} : {constant} : {message}")
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
