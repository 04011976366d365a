"""Exceptions of this package beside onnxruntime's own classes.

    RknnError(RuntimeError)                 something of ours failed
    ├─ DeviceUnavailable                    no library, no device node, no permission, wrong SoC
    ├─ DeviceError                          a call to the device failed; has .call, .code and .code_name
    │  ├─ InferenceTimeout(TimeoutError)    an inference took longer than its limit
    │  └─ NpuMemoryFull(MemoryError)        no NPU memory for a context, and no idle one to close
    ├─ InvalidOption(ValueError)            an engine option whose value makes no sense here
    ├─ SubmitTimeout(TimeoutError)          no room in the queue until the deadline
    └─ SessionClosed                        the session was closed before the job ran

Whatever onnxruntime would raise (bad files, bad feeds, unknown outputs) is raised as onnxruntime's own class, see
:mod:`ort_rknn.ort_conventions`.
"""

from __future__ import annotations

from typing import NoReturn

__all__ = [
    "ClosedSession",
    "DeviceError",
    "DeviceUnavailable",
    "InferenceTimeout",
    "InvalidOption",
    "NpuMemoryFull",
    "RknnError",
    "SessionClosed",
    "SubmitTimeout",
]


class RknnError(RuntimeError):
    """Base class of this package's own errors; what strangers wrote is shown harmless in it."""

    def __str__(self) -> str:
        from ort_rknn_converters.util.foreign_text import shown_lines

        return shown_lines(super().__str__())


class DeviceUnavailable(RknnError):
    """Raised when a device cannot be used at all; the message says why and what to do."""


class DeviceError(RknnError):
    """Raised when a call to the device failed.

    Attributes:
        call: The function that failed, e.g. ``rknn_run``; ``""`` when there is none.
        code: Its return code; 0 when there is none.
        code_name: The constant's name, e.g. ``RKNN_ERR_TIMEOUT``.
    """

    def __init__(self, message: str, *, call: str = "", code: int = 0, code_name: str = "") -> None:
        super().__init__(message)
        self.call = call
        self.code = code
        self.code_name = code_name


class InferenceTimeout(DeviceError, TimeoutError):
    """Raised when an inference did not end within its time limit."""


class NpuMemoryFull(DeviceError, MemoryError):
    """Raised when a context cannot be opened because the NPU's memory, or its budget, is taken by others at work.

    The session stays: a later call opens it again.
    """


class InvalidOption(RknnError, ValueError):
    """Raised when an engine option has a value that makes no sense, or one this device cannot serve."""


class SubmitTimeout(RknnError, TimeoutError):
    """Raised when the queue stayed full until the submission's deadline."""


class SessionClosed(RknnError):
    """Raised when a job is given to a closed session, or was still queued when it closed."""


class ClosedSession:
    """Stands in the place of a closed session's native one: every use of it says so."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self.refuse()

    def refuse(self) -> NoReturn:
        """Raise what every use raises."""
        raise SessionClosed("the session was closed; make a new one")
