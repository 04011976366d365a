"""Errors across the wire: an exception's class and text go over beside the protocol's status, and come back as that.

Onnxruntime's own classes and texts therefore read on the client as they do on the server. A status without a class (a
server that is not there, another maker's server) becomes one of this package's own errors.
"""

from __future__ import annotations

import builtins
from typing import Any

from ort_rknn import errors
from ort_rknn.ort_conventions import ort_error
from ort_rknn_converters.util.frozen import frozen

__all__ = ["KIND_HEADER", "KIND_KEY", "Failure", "Refusal", "failure_of", "rebuilt"]

KIND_KEY = "ort-rknn-error"
"""Key of gRPC's trailing metadata with the exception's class; HTTP has it as a header."""

KIND_HEADER = "Ort-Rknn-Error"

MOST_TEXT = 4000
"""Characters of a text that travel: gRPC's headers are 8 kB by default."""

_ORT = ("InvalidArgument", "NoSuchFile", "NotImplemented", "InvalidProtobuf", "InvalidGraph", "Fail", "NoModel")
_ORT_MORE = (
    "EngineError",
    "RuntimeException",
    "ModelLoaded",
    "EPFail",
    "ModelRequiresCompilation",
    "ModelLoadCanceled",
)
_OURS = ("SubmitTimeout", "InferenceTimeout", "SessionClosed", "DeviceUnavailable", "DeviceError", "InvalidOption")
_BUILTIN = ("ValueError", "TypeError", "RuntimeError", "IndexError", "KeyError", "MemoryError", "OverflowError")

_CODES = {
    "InvalidArgument": "INVALID_ARGUMENT",
    "NoSuchFile": "NOT_FOUND",
    "NotImplemented": "UNIMPLEMENTED",
    "SubmitTimeout": "RESOURCE_EXHAUSTED",
    "InferenceTimeout": "DEADLINE_EXCEEDED",
    "SessionClosed": "UNAVAILABLE",
    "InvalidOption": "INVALID_ARGUMENT",
    "MemoryError": "RESOURCE_EXHAUSTED",
    "ValueError": "INVALID_ARGUMENT",
    "TypeError": "INVALID_ARGUMENT",
}
"""Class -> gRPC's status; INTERNAL for all others."""

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""gRPC's status -> HTTP's, as gRPC's own gateways map them."""


@frozen
class Failure:
    """An error as it travels.

    Attributes:
        code: gRPC's status by name.
        kind: The exception's class; ``""`` where the status says it all.
        text: Its text.
    """

    code: str
    kind: str
    text: str

    @property
    def http(self) -> int:
        """HTTP's status."""
        return HTTP_STATUS.get(self.code, 500)


class Refusal(Exception):
    """Raised for a call that the server refuses, or whose model it could not open.

    Args:
        code: gRPC's status by name.
        text: What was wrong, and what to do.
        kind: Class that a client of ours raises; ``""`` leaves it to the status.
    """

    def __init__(self, code: str, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.failure = Failure(code, kind, text)

    @classmethod
    def of(cls, failure: Failure) -> Refusal:
        """A failure once more: of a model that could not be opened."""
        return cls(failure.code, failure.text, failure.kind)


def failure_of(error: BaseException) -> Failure:
    """An exception of a session, or of the server, as it travels."""
    if isinstance(error, Refusal):
        return error.failure
    known = {*_ORT, *_ORT_MORE, *_OURS, *_BUILTIN}
    kind = next((cls.__name__ for cls in type(error).__mro__ if cls.__name__ in known), "")
    text = str(error) or type(error).__name__
    if not kind:
        text = f"{type(error).__name__}: {text}"
    if len(text) > MOST_TEXT:
        text = f"{text[:MOST_TEXT]} ..."
    return Failure(_CODES.get(kind, "INTERNAL"), kind, text)


def rebuilt(failure: Failure, where: str, timeout: float) -> Exception:
    """The exception of a failure that came over the wire.

    Args:
        failure: As it came.
        where: The server, for what it did not say itself.
        timeout: Seconds the call was given.
    """
    kind, text = failure.kind, failure.text
    if kind in _ORT or kind in _ORT_MORE:
        from ort_rknn.remote.without import error_class

        return error_class(kind)(text)
    if kind in _OURS:
        made: Exception = getattr(errors, kind)(text)
        return made
    if kind in _BUILTIN:
        builtin: type[Exception] = getattr(builtins, kind)
        return builtin(text)
    return _by_code(failure.code, text, where, timeout)


def _by_code(code: str, text: str, where: str, timeout: float) -> Exception:
    if code == "UNAVAILABLE":
        return errors.DeviceUnavailable(f"no answer from {where}: {text}. Is `ort-rknn serve` running there?")
    if code == "DEADLINE_EXCEEDED":
        return errors.InferenceTimeout(
            f"{where} gave no answer within {timeout:g} s: {text}", call="ModelInfer", code_name=code
        )
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return errors.DeviceUnavailable(
            f"{where} wants another token: {text}. Set ORT_RKNN_TOKEN or ORT_RKNN_TOKEN_FILE"
        )
    if code == "RESOURCE_EXHAUSTED":
        return errors.SubmitTimeout(f"{where} is busy, or the message too large for it: {text}")
    ours = {"INVALID_ARGUMENT": "InvalidArgument", "NOT_FOUND": "NoSuchFile", "UNIMPLEMENTED": "NotImplemented"}
    if code in ours:
        return _ort(ours[code], f"{where}: {text}")
    return errors.DeviceError(f"{where}: {text}", call="ModelInfer", code_name=code)


def _ort(name: str, message: str) -> Exception:
    from ort_rknn.remote.without import has_onnxruntime

    if has_onnxruntime():
        return ort_error(name, message)
    from ort_rknn.remote.without import error_class

    made: Any = error_class(name)(message)
    return made  # type: ignore[no-any-return]
