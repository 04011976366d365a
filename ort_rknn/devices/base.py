"""The narrow waist: all that can execute a compiled segment stands behind these protocols.

Protocols and not base classes, because a device shares no code with another: one talks to a C library, one to
onnxruntime, one to a child process, and a user's own needs no import of ours. The engine sees nothing else of a
device; keep it that way, and keep it small.

A :class:`Device` opens a :class:`SegmentCode` on a core and gives a :class:`Context`. A context runs one inference
at a time: the engine never calls it from two threads at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = [
    "ALL_CORES",
    "AUTO",
    "Blob",
    "Context",
    "Device",
    "SegmentCode",
    "StoredBlob",
    "TensorSpec",
    "core_mask",
    "needs",
]

AUTO = 0
"""Core mask that leaves the choice of the core to the driver (``RKNN_NPU_CORE_AUTO``)."""

ALL_CORES = 0xFFFF
"""The vendor's mask for all cores, however many there are."""


def core_mask(cores: Sequence[int]) -> int:
    """The vendor's bit mask for core numbers: ``[0] -> 1``, ``[0, 1] -> 3``, ``[] -> 0`` (auto)."""
    mask = 0
    for core in cores:
        mask |= 1 << core
    return mask


@frozen
class TensorSpec:
    """A segment's input or output as ONNX declares it.

    Attributes:
        name: The ONNX value's name.
        dtype: numpy dtype of the array that goes in or comes out.
        shape: Fixed dimensions.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Blob(Protocol):
    """Bytes that may still be on disk: a device that can take a path never reads them."""

    @property
    def path(self) -> str | None:
        """The file that holds exactly these bytes, or ``None``."""

    def read(self) -> bytes:
        """The bytes."""


class StoredBlob(Blob, Protocol):
    """A blob in the cache: what is computed from it can be kept beside it."""

    def derived(self, name: str, make: Callable[[], bytes]) -> Blob:
        """Result of ``make``; from the second time on from the cache."""


@frozen
class SegmentCode:
    """Everything a device may need to open one NPU segment.

    Attributes:
        name: The segment's name in the plan.
        inputs: In the order of the compiled code's inputs.
        outputs: In the order of the compiled code's outputs.
        target: SoC the code is for; ``""`` when unknown.
        precision: ``fp16``, ``int8`` ...
        rknn: The vendor's compiled code, or ``None`` when it was stripped.
        onnx: The same segment as ONNX (float32), or ``None`` when it was stripped.
        dynamic: Whether the compiled code holds several sets of input shapes, of which these are to be chosen.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    target: str
    precision: str
    rknn: Blob | None
    onnx: Blob | None
    dynamic: bool = False


@runtime_checkable
class Context(Protocol):
    """An opened segment on one core (or core mask). Not thread-safe: one lane owns it."""

    def run(self, inputs: Sequence[Array], wanted: Sequence[bool] | None = None) -> list[Array | None]:
        """Run one inference.

        Args:
            inputs: One C-contiguous array per :attr:`SegmentCode.inputs`, of exactly that dtype and shape.
            wanted: Which outputs are needed; all when ``None``. The others come back as ``None``.

        Returns:
            Fresh arrays that belong to the caller, in the order of :attr:`SegmentCode.outputs`.

        Raises:
            DeviceError: The inference failed; the context may be unusable and is closed by the engine.
        """

    def close(self) -> None:
        """Give everything back. May be called twice."""

    def describe(self) -> Mapping[str, Any]:
        """Facts about this context for plans and reports (core mask, memory, versions ...)."""


@runtime_checkable
class Device(Protocol):
    """Something that executes segments."""

    @property
    def name(self) -> str:
        """``npu``, ``lite``, ``simulator``, ``toolkit``, ``cpu`` or ``fake``."""

    @property
    def cores(self) -> int:
        """Number of cores that work independently."""

    def open(self, code: SegmentCode, mask: int = AUTO, share: Context | None = None) -> Context:
        """Open a segment.

        Args:
            code: The segment.
            mask: Core mask, bit *i* for core *i*; 0 lets the driver choose.
            share: A context of the same segment whose weights may be shared (``rknn_dup_context``).

        Raises:
            DeviceUnavailable: The device cannot open anything (no library, no permission, wrong SoC, ...).
            DeviceError: This segment cannot be opened.
        """

    def describe(self) -> Mapping[str, Any]:
        """Facts about the device for plans and reports."""

    def close(self) -> None:
        """Give everything back. Contexts must be closed before."""


def needs(device: Device | None) -> frozenset[str]:
    """Returns the forms of a segment that a device cannot run without: ``rknn`` (compiled code), ``onnx``.

    A device of somebody else's may say so in an attribute ``needs``; without one it is taken to need neither.
    """
    return getattr(device, "needs", frozenset())
