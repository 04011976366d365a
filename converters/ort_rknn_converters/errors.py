"""Errors between an ONNX file and a compiled model.

    ConvertError(RuntimeError)
    ├─ UnknownTarget(ValueError)     a SoC this package has no table for
    ├─ UnknownOption(ValueError)     an option that does not exist, or a value it does not take
    ├─ CalibrationError(ValueError)  calibration data are missing, empty or do not fit the model
    ├─ ModelError(ValueError)        the ONNX model cannot be read, or contradicts itself
    │  └─ RunFailed                  a run of it on ONNX Runtime took too long, or too much memory
    ├─ CompiledModelError(ValueError)  a compiled model or .rknn file is damaged or of another make
    ├─ NotAllOnNpu                   nodes must stay on the CPU though all were demanded on the NPU
    ├─ WrongNumbers                  the whole compiled model is off though strict numbers were demanded
    ├─ ToolkitMissing                no rknn-toolkit2 to run
    │  ├─ ExtraMissing               the packages are not installed that a conversion needs: ort-rknn[convert]
    │  └─ ToolkitBroken              there is one, and it does not start, or fails on any model
    │     └─ NpuNotOpened            its aarch64 compiler opens the NPU even to compile, and cannot on this machine
    ├─ ToolkitFailed                 the toolkit refused the model, crashed, was killed, or ran out of time or memory
    ├─ VerificationFailed            the compiled segment computes something else than ONNX Runtime
    └─ Fault                         a defect of this package: ONNX Runtime opens the model

The rooms above turn these into onnxruntime's own classes where onnxruntime would raise one.
"""

from __future__ import annotations

from typing import Literal

from ort_rknn_converters.util.foreign_text import shown_lines
from ort_rknn_converters.util.plain_data import TEXT, record, word

__all__ = [
    "FROZEN",
    "PASSING",
    "CalibrationError",
    "CompiledModelError",
    "ConvertError",
    "ExtraMissing",
    "FailureKind",
    "Fault",
    "ModelError",
    "NotAllOnNpu",
    "NpuNotOpened",
    "RunFailed",
    "ToolkitBroken",
    "ToolkitFailed",
    "ToolkitMissing",
    "UnknownOption",
    "UnknownTarget",
    "VerificationFailed",
    "WrongNumbers",
    "freeze",
    "thaw",
]

FailureKind = Literal["refused", "crashed", "timeout", "memory", "killed"]

PASSING: frozenset[str] = frozenset({"timeout", "memory", "killed"})
"""Kinds of failure that depend on the moment: the next conversion may not meet them, so nobody remembers them."""


class ConvertError(RuntimeError):
    """Base class of everything this package raises on purpose; what strangers wrote is shown harmless in it."""

    def __str__(self) -> str:
        return shown_lines(super().__str__())


class UnknownTarget(ConvertError, ValueError):
    """Raised when the SoC named is not in the table of targets."""


class UnknownOption(ConvertError, ValueError):
    """Raised when an option does not exist or its value makes no sense."""


class CalibrationError(ConvertError, ValueError):
    """Raised when calibration data are missing, empty, or of other names or shapes than the model's inputs."""


class ModelError(ConvertError, ValueError):
    """Raised when the ONNX model cannot be read or is invalid."""


class CompiledModelError(ConvertError, ValueError):
    """Raised when a compiled model or a bare ``.rknn`` file cannot be trusted."""


class RunFailed(ModelError):
    """Raised when a run of the user's graph was ended; another time, or on another machine, it may not be.

    Attributes:
        kind: ``timeout`` or ``memory``.
    """

    def __init__(self, message: str, *, kind: Literal["timeout", "memory"]) -> None:
        super().__init__(message)
        self.kind = kind


class NotAllOnNpu(ConvertError):
    """Raised when ``npu_only`` was asked for and nodes must stay on the CPU; the message lists them."""


class WrongNumbers(ConvertError):
    """Raised when ``strict_numbers`` was asked for and the whole compiled model is off by more than the tolerance."""


class ToolkitMissing(ConvertError):
    """Raised when a compilation is asked for and there is no rknn-toolkit2 to do it."""


class ExtraMissing(ToolkitMissing):
    """Raised when what is asked for needs the packages of the extra ``convert``, and they are not installed."""


class ToolkitBroken(ToolkitMissing):
    """Raised when there is an rknn-toolkit2 that does not start, or that fails on a model of two nodes, too.

    Attributes:
        dear: Whether it took long to find out: whole parts of a model were compiled before.
    """

    def __init__(self, message: str, *, dear: bool = False) -> None:
        super().__init__(message)
        self.dear = dear


class NpuNotOpened(ToolkitBroken):
    """Raised when the toolkit's aarch64 compiler cannot open the NPU, which it does even to compile.

    A fact about this machine at this moment: nothing of it is remembered, and no node is blamed.
    """


class ToolkitFailed(ConvertError):
    """Raised when the toolkit's child process did not deliver a compiled segment.

    Attributes:
        kind: ``refused`` (a Python error or a return code of the toolkit), ``crashed`` (a signal of its own making),
            ``timeout``, ``memory`` or ``killed`` (somebody else's signal); the last three are of the moment.
        log: The last lines the child printed.
    """

    def __init__(self, message: str, *, kind: FailureKind, log: str = "") -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.log = log

    @property
    def passing(self) -> bool:
        """Whether the failure depends on the moment, not on the model."""
        return self.kind in PASSING


class VerificationFailed(ConvertError):
    """Raised when a compiled segment's numbers, names or shapes differ from ONNX Runtime's."""


class Fault(ConvertError):
    """Raised for a defect of this package: the model is good, as far as ONNX Runtime can tell."""


def freeze(error: ConvertError) -> dict[str, str]:
    """An error as plain data, for another process."""
    return {"class": type(error).__name__, "message": str(error), "kind": getattr(error, "kind", "")}


FROZEN = record({"class": TEXT, "message": TEXT, "kind": word("", "refused", "crashed", "timeout", "memory", "killed")})
"""Form of what :func:`freeze` gives, when it is read back."""


def thaw(failure: dict[str, str], note: str = "") -> ConvertError:
    """The error that :func:`freeze` was given, with a note behind its message.

    Args:
        failure: Of the form :data:`FROZEN`.
        note: Behind the message.
    """
    text = failure["message"] + note
    if failure["class"] == ToolkitFailed.__name__:
        return ToolkitFailed(text, kind=failure["kind"])  # type: ignore[arg-type]
    if failure["class"] == RunFailed.__name__:
        return RunFailed(text, kind=failure["kind"])  # type: ignore[arg-type]
    known = globals().get(failure["class"])
    return known(text) if isinstance(known, type) and issubclass(known, ConvertError) else ConvertError(text)
