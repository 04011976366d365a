"""``OrtValue``: onnxruntime's own class, which can also be in memory that the NPU reads and writes without a copy.

onnxruntime's native values cannot be in the memory of a provider it does not know, so a value there is a Python object
of ours. It looks like any other; its memory is mapped, so that ``numpy()`` is a view and not a copy.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn.accounting.ledger import LEDGER
from ort_rknn.ort_private.own import public
from ort_rknn.ort_private.values import MappedValue, Unshared, new_value, over
from ort_rknn.signatures import shown_as_theirs

if TYPE_CHECKING:
    from ort_rknn.devices.rknnrt.memory import NpuMemory

__all__ = ["NPU_NAMES", "NpuOrtValue", "OrtValue", "at_address", "memory_for", "npu_open", "says_more"]

NPU_NAMES = frozenset({"npu", "rknpu", "rknpu2"})
"""Device names that mean NPU memory: onnxruntime's own word for such devices, and EZ RKNN Async's."""

_Theirs: Any = public("OrtValue")
_LAYOUTS = ("nchw", "nhwc")
_by_address: weakref.WeakValueDictionary[int, NpuOrtValue] = weakref.WeakValueDictionary()


class _AnyOrtValue(type):
    """Lets ``isinstance(x, ort_rknn.OrtValue)`` be true for the values onnxruntime gives back."""

    def __instancecheck__(cls, instance: object) -> bool:
        if cls.__dict__.get("_is_the_public_class"):
            return isinstance(instance, _Theirs)
        return type.__instancecheck__(cls, instance)


@shown_as_theirs
class OrtValue(_Theirs, metaclass=_AnyOrtValue):  # type: ignore[misc]
    """onnxruntime's ``OrtValue``, also with ``device_type="npu"`` (or ``"rknpu2"``).

    A value in NPU memory that is bound to a session's input or output
    (:class:`~ort_rknn.ort_types.iobinding.IOBinding`) is read or written by the NPU itself. It needs an open session
    on device ``npu`` when it is made, not afterwards.
    """

    _is_the_public_class = True

    @classmethod
    def ortvalue_from_numpy(
        cls, numpy_obj: Any, /, device_type: str = "cpu", device_id: int = 0, *rest: Any, **named: Any
    ) -> Any:
        """Mirrors onnxruntime's; on the NPU the array is copied to its memory.

        Args:
            numpy_obj: A numeric array.
            device_type: As onnxruntime's.
            device_id: 0: there is one NPU, whatever the number of its cores.
            *rest: As onnxruntime's.
            **named: As onnxruntime's; and for the NPU ``layout``, see :meth:`ortvalue_from_shape_and_type`.

        Raises:
            RuntimeError: As onnxruntime's; or there is no NPU memory.
        """
        if device_type not in NPU_NAMES or says_more(*rest, named.get("vendor_id")):
            return super().ortvalue_from_numpy(numpy_obj, device_type, device_id, *rest, **named)
        if not isinstance(numpy_obj, np.ndarray) or numpy_obj.dtype.kind not in "biuf":
            raise RuntimeError("Creation of OrtValues is currently only supported from non-string numpy arrays")
        named.pop("vendor_id", None)
        value = cls.ortvalue_from_shape_and_type(numpy_obj.shape, numpy_obj.dtype, device_type, device_id, **named)
        value.update_inplace(numpy_obj)
        return value

    @classmethod
    def ortvalue_from_shape_and_type(
        cls,
        shape: Sequence[int],
        element_type: Any,
        device_type: str = "cpu",
        device_id: int = 0,
        *rest: Any,
        layout: str | None = None,
        **named: Any,
    ) -> Any:
        """Mirrors onnxruntime's method.

        Args:
            shape: The dimensions, as ONNX has them.
            element_type: numpy's type or ONNX's number for it.
            device_type: As onnxruntime's.
            device_id: 0: there is one NPU, whatever the number of its cores.
            *rest: As onnxruntime's.
            layout: For four dimensions in NPU memory, the order they lie in: ``nhwc``, in which the NPU reads pictures,
                or ``nchw``, in which it writes results. Default: whichever the first use needs, ``nhwc`` if that is
                a look at the content. The shape is ONNX's in either case.
            **named: As onnxruntime's.

        Raises:
            Exception: What onnxruntime raises where no session is open on an NPU.
            RuntimeError: As onnxruntime's; or there is no NPU memory.
        """
        if device_type not in NPU_NAMES or says_more(*rest, *named.values()):
            if layout is not None:
                raise ValueError("layout is for values in NPU memory")
            return super().ortvalue_from_shape_and_type(shape, element_type, device_type, device_id, *rest, **named)
        dtype, dims = _dtype(element_type), tuple(map(int, shape))
        memory = _allocated(dtype, dims)
        if memory is None:  # refused in the words of the installed release
            return super().ortvalue_from_shape_and_type(shape, element_type, device_type, device_id)
        _one_npu(device_id)
        return NpuOrtValue(memory, dtype, dims, layout)

    @classmethod
    def ortvalue_from_dmabuf(
        cls, fd: int, shape: Sequence[int], element_type: Any, *, offset: int = 0, layout: str | None = None
    ) -> NpuOrtValue:
        """A value in memory that another device shares: a camera's picture, a display's. Not in onnxruntime.

        Args:
            fd: File descriptor of the dma-buf; it is duplicated, the caller keeps its own.
            shape: The dimensions, as ONNX has them.
            element_type: numpy's type or ONNX's number for it.
            offset: Byte at which the value begins.
            layout: As for :meth:`ortvalue_from_shape_and_type`; pictures of cameras are ``nhwc``.

        Raises:
            RuntimeError: The memory cannot be mapped, or is too small.
        """
        from ort_rknn.devices.rknnrt.memory import NpuMemory

        dtype, dims = _dtype(element_type), tuple(map(int, shape))
        return NpuOrtValue(NpuMemory(fd, _bytes(dtype, dims), offset), dtype, dims, layout)


@shown_as_theirs
class NpuOrtValue(MappedValue, OrtValue):
    """A value in NPU memory. Made by the class methods of :class:`OrtValue` and by bindings.

    It has one owner at a time: nobody may write while the NPU reads. The memory is freed when neither this nor an
    array of :meth:`numpy` is used any more.

    Attributes:
        memory: The memory.
        dtype: numpy's dtype.
    """

    def __init__(self, memory: NpuMemory, dtype: np.dtype[Any], shape: tuple[int, ...], layout: str | None) -> None:
        if layout is not None and layout not in _LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(_LAYOUTS)}, not {layout!r}")
        self.memory = memory
        self.dtype = dtype
        self._shape = shape
        self._layout = layout if len(shape) == 4 else "nchw"
        _by_address[memory.address] = self

    def settle(self, layout: str) -> str:
        """The order in memory; this one from now on, if it was open."""
        if self._layout is None:
            self._layout = layout
        return self._layout

    @property
    def layout(self) -> str | None:
        """``nhwc`` or ``nchw`` for four dimensions; ``None`` before the first use."""
        return self._layout

    def as_native(self) -> Any:
        """The native value: over the same memory where that is in ONNX's order, else a copy."""
        if self.settle("nchw") == "nchw":
            try:
                return over(self.numpy(), self.memory)
            except Unshared:  # for a look, or a feed, a copy does; what is bound asks for :meth:`over`
                return new_value(self.numpy())
        return new_value(self.contiguous())

    def over(self) -> Any:
        """A native value to bind: over the same memory; a copy where that is not in ONNX's order.

        Raises:
            RuntimeError: This onnxruntime cannot share memory.
        """
        return over(self.numpy(), self.memory) if self.settle("nchw") == "nchw" else new_value(self.contiguous())

    def contiguous(self) -> np.ndarray[Any, Any]:
        """The content in ONNX's order: a copy where the memory is in another."""
        return np.ascontiguousarray(self.numpy())

    def empty(self) -> Any:
        """A native value of this shape and type in the CPU's memory."""
        return new_value(np.zeros(self._shape, self.dtype))

    def shape(self) -> list[int]:
        """The dimensions, as ONNX has them."""
        return list(self._shape)

    def numpy(self) -> np.ndarray[Any, Any]:
        """The memory itself as an array of the ONNX shape (transposed where it lies ``nhwc``): not a copy."""
        return self.memory.view(self.dtype, self._shape, nhwc=self.settle("nhwc") == "nhwc")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype=dtype) if copy else np.asarray(self.numpy(), dtype=dtype)

    def update_inplace(self, data: Any) -> None:
        """Mirrors onnxruntime's: an array or another value of the same number of elements."""
        array = np.asarray(data.numpy() if isinstance(data, _Theirs) else data)
        if array.size != int(np.prod(self._shape, dtype=np.int64)):
            raise RuntimeError(
                f"The input tensor has {array.size} elements, the value has shape {{{','.join(map(str, self._shape))}}}"
            )
        self.numpy()[...] = array.reshape(self._shape)

    def data_ptr(self) -> int:
        """Address at which the memory is mapped."""
        self.settle("nhwc")
        return self.memory.address

    def fileno(self) -> int:
        """File descriptor of the dma-buf, for other devices; it lives as long as this value. Not in onnxruntime."""
        self.settle("nhwc")
        return self.memory.fd

    def device_name(self) -> str:
        """``npu``."""
        return "npu"

    def data_type(self) -> str:
        """The type in onnxruntime's words."""
        return str(self._native_type().data_type())

    def element_type(self) -> int:
        """ONNX's number for the type."""
        return int(self._native_type().element_type())

    def _native_type(self) -> Any:
        return new_value(np.zeros(0, self.dtype))

    def tensor_size_in_bytes(self) -> int:
        """Bytes of the content."""
        return _bytes(self.dtype, self._shape)

    def has_value(self) -> bool:
        """Always."""
        return True

    def is_tensor(self) -> bool:
        """Always."""
        return True

    def is_sparse_tensor(self) -> bool:
        """Never."""
        return False

    def is_tensor_sequence(self) -> bool:
        """Never."""
        return False

    def __dlpack__(self, **how: Any) -> Any:
        return self.numpy().__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the CPU can read it

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot pickle an OrtValue in NPU memory")


# onnxruntime's native calls know a value by the name of its class.
NpuOrtValue.__name__ = OrtValue.__name__


def memory_for(dtype: np.dtype[Any], shape: tuple[int, ...]) -> NpuMemory:
    """Fresh NPU memory.

    Raises:
        RuntimeError: No session is open on an NPU, or it has no memory.
    """
    memory = _allocated(dtype, shape)
    if memory is not None:
        return memory
    raise RuntimeError(
        "Unsupported device: Cannot place the OrtValue on this device: no session is open on an NPU. "
        "Make the session (device 'npu') before values in its memory."
    )


def _allocated(dtype: np.dtype[Any], shape: tuple[int, ...]) -> NpuMemory | None:
    size = _bytes(dtype, shape)

    def taken() -> NpuMemory | None:
        memories = (device.allocate(size) for device in _devices())
        return next((memory for memory in memories if memory is not None), None)

    memory = taken()
    for holder in LEDGER.asleep() if memory is None else ():
        contexts = holder.open_briefly()  # memory comes from a context, and is there without it
        try:
            memory = memory or taken()
        finally:
            contexts.close()
        if memory is not None:
            break
    return memory


def npu_open() -> bool:
    """Whether any session of this process is open on an NPU."""
    return bool(_devices() or LEDGER.asleep())


def _devices() -> list[Any]:
    module: Any = sys.modules.get("ort_rknn.devices.rknnrt.device")  # nothing is open where it was never imported
    return [] if module is None else list(module.open_devices())


def at_address(address: int, element_type: Any, shape: Sequence[int]) -> NpuOrtValue:
    """The value whose memory begins at an address, as another of that type and shape.

    Raises:
        RuntimeError: There is none.
    """
    known = _by_address.get(int(address))
    dtype, dims = _dtype(element_type), tuple(map(int, shape))
    if known is None or known.memory.size < _bytes(dtype, dims):
        raise RuntimeError(
            f"Error when binding: there is no NPU memory of {_bytes(dtype, dims)} bytes at {int(address):#x}; "
            "bind an OrtValue that was made with device_type='npu', or its data_ptr()"
        )
    if (known.dtype, tuple(known.shape())) == (dtype, dims):
        return known
    return NpuOrtValue(known.memory, dtype, dims, known.layout)


def says_more(*further: Any) -> bool:
    """Whether any of onnxruntime's further arguments (``vendor_id``, ``memory_info``) is not its default."""
    return any(value is not None and not (isinstance(value, int) and value == -1) for value in further)


def _one_npu(device_id: int) -> None:
    if device_id != 0:
        raise RuntimeError(f"Unsupported device: there is one NPU, and its device_id is 0, not {device_id}")


def _dtype(element_type: Any) -> np.dtype[Any]:
    """The dtype as numpy has it; onnxruntime reads ONNX's numbers."""
    if isinstance(element_type, (int, np.integer)):
        native: Any = _Theirs.ortvalue_from_shape_and_type([0], int(element_type))
        known: np.dtype[Any] = np.asarray(native.numpy()).dtype
        return known
    dtype = np.dtype(element_type)
    try:
        _Theirs.ortvalue_from_shape_and_type([0], dtype.type)  # says what it does not have
    except (AttributeError, TypeError):  # or does not find its own insides any more
        if dtype.kind not in "biuf":
            raise
    native_order: np.dtype[Any] = dtype.newbyteorder("=")
    return native_order


def _bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
