"""The device ``npu`` on the emulated librknnrt of this project's tests, with real numbers.

The emulator has the vendor's interface, cores and memory, but no arithmetic. Lent our simulator's, a whole model can be
compared: types, layouts, copies, contexts and cores are the emulator's, and nothing is known about a board.
"""

from __future__ import annotations

import ctypes
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn.devices.base import AUTO, Context, SegmentCode, TensorSpec
from ort_rknn.devices.library_name import named_library
from ort_rknn.devices.rknnrt.abi import MAX_DIMS, NUMPY_OF
from ort_rknn.devices.rknnrt.context import NpuContext
from ort_rknn.devices.rknnrt.device import NpuDevice
from ort_rknn.devices.settings import NpuSettings
from ort_rknn.devices.simulator import SimulatorDevice
from ort_rknn.errors import DeviceUnavailable
from ort_rknn_converters.targets import DEFAULT_TARGET
from ort_rknn_converters.util.frozen import replace
from ort_rknn_converters.util.log import logger

__all__ = ["EmulatedNpu", "is_emulator"]

_DONE, _UNKNOWN, _FAILED = 0, 1, 2


class _Array(ctypes.Structure):
    """``emu_array`` of tests/emulator/emulator.h."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_uint32),
        ("n_dims", ctypes.c_uint32),
        ("dims", ctypes.c_uint32 * MAX_DIMS),
        ("zp", ctypes.c_int32),
        ("scale", ctypes.c_float),
    ]

    def view(self) -> NDArray[Any]:
        """The emulator's own memory, in its stored type."""
        dtype = np.dtype(NUMPY_OF[self.type])
        shape = tuple(self.dims[: self.n_dims])
        raw = (ctypes.c_ubyte * (dtype.itemsize * int(np.prod(shape)))).from_address(self.data)
        return np.frombuffer(memoryview(raw), dtype).reshape(shape)

    def read(self, spec: TensorSpec) -> NDArray[Any]:
        """The values as ONNX declares them."""
        array = self.view()
        if self.scale:
            array = (array.astype(np.float32) - np.float32(self.zp)) * np.float32(self.scale)
        return np.ascontiguousarray(array.reshape(spec.shape).astype(spec.dtype))

    def write(self, values: NDArray[Any]) -> None:
        """Store values as the NPU would."""
        room = self.view()
        if self.scale:
            limits = np.iinfo(room.dtype)
            values = np.clip(np.rint(values.astype(np.float64) / self.scale) + self.zp, limits.min, limits.max)
        with np.errstate(over="ignore"):
            room[...] = values.reshape(room.shape).astype(room.dtype)


_ARITHMETIC = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_uint64, ctypes.c_uint32, ctypes.POINTER(_Array), ctypes.c_uint32, ctypes.POINTER(_Array)
)


def is_emulator(library: str) -> bool:
    """Whether a runtime library is the tests' emulator and no board's librknnrt."""
    try:
        return hasattr(ctypes.CDLL(library), "emu_lend")
    except OSError:
        return False


class EmulatedNpu(NpuDevice):
    """Device ``npu`` on the emulated runtime that the environment names (``ORT_RKNN_RUNTIME_LIBRARY``).

    Args:
        settings: See :class:`~ort_rknn.devices.settings.NpuSettings`; the emulator gets as many cores as the target.

    Raises:
        DeviceUnavailable: No emulator is named.
    """

    def __init__(self, settings: NpuSettings | None = None) -> None:
        settings = settings or NpuSettings()
        path = named_library(settings.runtime_library)
        if path is None or not is_emulator(path):
            raise DeviceUnavailable(
                "no emulated NPU: `make emulator` in a checkout builds it, ORT_RKNN_RUNTIME_LIBRARY is to name it "
                f"(it names {path or 'nothing'})"
            )
        super().__init__(replace(settings, runtime_library=path, target=settings.target or DEFAULT_TARGET))
        library = ctypes.CDLL(path)
        library.emu_configure(b"cores", str(self.cores).encode())
        self._lender = _lender(path, library)
        self._simulator = SimulatorDevice(self.cores, target=self.target or DEFAULT_TARGET)

    def open(self, code: SegmentCode, mask: int = AUTO, share: Context | None = None) -> NpuContext:
        """Open a segment and lend its arithmetic."""
        if code.rknn is not None:
            blob = code.rknn
            content = Path(blob.path).read_bytes() if blob.path is not None else blob.read()
            self._lender.learn(content, code, self._simulator)
        return super().open(code, mask, share)

    def close(self) -> None:
        """Close what was left open."""
        super().close()
        self._simulator.close()


class _Lender:
    """Arithmetic of one loaded emulator; it lives as long as the library, which is never unloaded."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._known: dict[int, list[tuple[SegmentCode, Context]]] = {}
        self._lock = threading.Lock()
        self._callback = _ARITHMETIC(self._compute)
        self._library = library

    def lend(self) -> None:
        """Make the emulator compute with it from now on."""
        self._library.emu_lend(self._callback)

    def learn(self, content: bytes, code: SegmentCode, simulator: SimulatorDevice) -> None:
        """Know a segment by its compiled code; one with several sets of shapes is learned once a set."""
        identity = len(content) << 32 | zlib.crc32(content)
        with self._lock:
            known = self._known.setdefault(identity, [])
            # the newest last, for a device that was closed took its arithmetic along
            known[:] = [(one, context) for one, context in known if _shapes(one.inputs) != _shapes(code.inputs)]
            known.append((code, simulator.open(code)))

    def _compute(self, identity: int, n_input: int, inputs: Any, n_output: int, outputs: Any) -> int:
        """Called by the emulator, from any thread."""
        try:
            given, wanted = inputs[:n_input], outputs[:n_output]
            with self._lock:
                for code, context in self._known.get(identity, ()):
                    arrays = _ordered(given, code.inputs)
                    if all(
                        one.view().size == np.prod(spec.shape) for one, spec in zip(arrays, code.inputs, strict=True)
                    ):
                        values = [one.read(spec) for one, spec in zip(arrays, code.inputs, strict=True)]
                        for room, answer in zip(_ordered(wanted, code.outputs), context.run(values), strict=True):
                            assert answer is not None
                            room.write(answer)
                        return _DONE
        except Exception:  # it must not get into C code
            logger().exception("the arithmetic lent to the emulated NPU failed")
            return _FAILED
        return _UNKNOWN


def _ordered(arrays: Sequence[_Array], specs: Sequence[TensorSpec]) -> list[_Array]:
    """The arrays in the segment's order: by name where the names agree, else by position."""
    by_name = {(one.name or b"").decode(errors="replace"): one for one in arrays}
    names = [spec.name for spec in specs]
    return [by_name[name] for name in names] if set(by_name) == set(names) else list(arrays)


def _shapes(specs: Sequence[TensorSpec]) -> list[tuple[int, ...]]:
    return [spec.shape for spec in specs]


_lenders: dict[str, _Lender] = {}
_lock = threading.Lock()


def _lender(path: str, library: ctypes.CDLL) -> _Lender:
    with _lock:
        if path not in _lenders:
            _lenders[path] = _Lender(library)
        _lenders[path].lend()
        return _lenders[path]
