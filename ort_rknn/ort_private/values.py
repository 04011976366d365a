"""onnxruntime's values below its ``OrtValue``: made, unpacked, and laid over memory that the program has already.

Every way is tried where it is used and its outcome looked at: a value that is said to lie over an array must have the
array's address, shape and type. So nothing is remembered of what a release can do.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ort_rknn.ort_private.own import native, public, version
from ort_rknn.ort_private.probes import hooks_work

__all__ = [
    "MappedValue",
    "Unshared",
    "has_content",
    "is_tensor",
    "new_value",
    "over",
    "unpacked",
    "value_vector",
    "write",
]


class Unshared(RuntimeError):
    """No value of onnxruntime's can be laid over memory of the program's."""


class MappedValue:
    """Mixed into values that are no native value until onnxruntime's code asks for one."""

    _numpy_obj = None
    _session = None

    def as_native(self) -> Any:
        """The native value."""
        raise NotImplementedError

    def contiguous(self) -> np.ndarray[Any, Any]:
        """The content in ONNX's order."""
        raise NotImplementedError

    @property
    def _ortvalue(self) -> Any:
        return self.as_native()

    @property
    def _is_webgpu_buffer(self) -> bool:
        return False

    def _get_c_value(self) -> Any:
        return self.as_native()

    def __getattr__(self, name: str) -> Any:
        """Answers what onnxruntime's own code looks for in one of its values, by a value of its own."""
        if not name.startswith("_") or name.startswith("__") or name in ("_layout", "_shape"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        array = self.contiguous()
        theirs = public("OrtValue").ortvalue_from_numpy(array)
        _kept(theirs, array)
        return getattr(theirs, name)


def unpacked(value: Any) -> Any:
    """The native value inside onnxruntime's ``OrtValue``; the value itself where it shows none, ``None`` for others."""
    if isinstance(value, MappedValue):
        return value.as_native()
    kind = native("OrtValue")
    if kind is not None:
        if isinstance(value, kind):
            return value
        inside = getattr(value, "_ortvalue", None)
        if isinstance(inside, kind):
            return inside
    return value if isinstance(value, public("OrtValue")) else None


class _Values(list[Any]):
    """A vector of values where there is no native one."""

    push_back = list.append


def value_vector() -> Any:
    """Onnxruntime's vector of values, empty; a list of them where it has none."""
    kind = native("OrtValueVector") if hooks_work() else None
    return _Values() if kind is None else kind()


def new_value(array: np.ndarray[Any, Any]) -> Any:
    """A native value with the array's content in memory of its own; onnxruntime's public one where it has none."""
    kind, device = native("OrtValue"), native("OrtDevice")
    try:
        cpu = device(device.cpu(), device.default_memory(), 0)
        value = kind.ortvalue_from_shape_and_type(array.shape, array.dtype.type, cpu)
        if array.size:
            write(value, array)
        if tuple(value.shape()) == array.shape and np.asarray(value.numpy()).dtype == array.dtype:
            return value
    except (AttributeError, TypeError):
        pass  # not as it was; a type onnxruntime does not have is a RuntimeError or NotImplementedError
    copy = np.array(array, order="C")
    return _kept(public("OrtValue").ortvalue_from_numpy(copy), copy)


def is_tensor(value: Any) -> bool:
    """Whether a value is a dense tensor."""
    try:
        answer = value.is_tensor()
    except (AttributeError, TypeError):
        answer = None
    return answer if isinstance(answer, bool) else str(value.data_type()).startswith("tensor(")


def has_content(value: Any, otherwise: bool) -> bool:
    """Whether a value has any memory; ``otherwise`` where this onnxruntime does not tell."""
    try:
        answer = value.has_value()
    except (AttributeError, TypeError):
        answer = None
    return answer if isinstance(answer, bool) else otherwise


def write(value: Any, array: np.ndarray[Any, Any]) -> None:
    """Write to the memory of a value, which has the array's number of elements."""
    content = np.ascontiguousarray(array)  # onnxruntime reads the memory in this order, whatever the array's is
    try:
        value.update_inplace(content)
    except (AttributeError, TypeError):  # not as it was
        content = content.astype(np.asarray(value.numpy()).dtype, copy=False)
        ctypes.memmove(value.data_ptr(), content.ctypes.data, content.nbytes)


def over(array: np.ndarray[Any, Any], owner: object) -> Any:
    """A native value over the memory of a C-contiguous array, which it keeps alive.

    Args:
        array: The array; numbers or booleans.
        owner: What else must live as long as the value.

    Raises:
        Unshared: This onnxruntime has no way to do that.
    """
    said = "it has none of the known ways to make an OrtValue over memory"
    for way in _ways():
        try:
            value = way(array)
            if _lies_over(value, array):
                return _kept(value, (array, owner))
            said = f"an OrtValue made by its {way.__name__.strip('_')} does not lie over the memory it was made of"
        except Exception as error:  # whatever a release says to a call that it does not know
            said = str(error).strip().partition("\n")[0] or type(error).__name__
    raise Unshared(f"no memory on the NPU can be shared with this onnxruntime ({version()}): {said}")


def _ways() -> Iterator[Callable[[np.ndarray[Any, Any]], Any]]:
    kind, shown = native("OrtValue"), public("OrtValue")

    def from_dlpack(array: np.ndarray[Any, Any]) -> Any:
        return kind.from_dlpack(array.__dlpack__())

    def from_dlpack_with_flag(array: np.ndarray[Any, Any]) -> Any:
        flag = array.dtype == np.bool_
        return kind.from_dlpack((array.view(np.uint8) if flag else array).__dlpack__(), flag)

    def public_from_dlpack(array: np.ndarray[Any, Any]) -> Any:
        return _kept(shown.from_dlpack(array), array)

    def ortvalue_from_numpy(array: np.ndarray[Any, Any]) -> Any:
        return _kept(shown.ortvalue_from_numpy(array), array)

    if hasattr(kind, "from_dlpack"):
        yield from_dlpack
        yield from_dlpack_with_flag
    if hasattr(shown, "from_dlpack"):
        yield public_from_dlpack
    yield ortvalue_from_numpy


def _lies_over(value: Any, array: np.ndarray[Any, Any]) -> bool:
    seen = np.asarray(value.numpy())
    address = array.__array_interface__["data"][0]
    return seen.dtype == array.dtype and seen.shape == array.shape and (not array.size or value.data_ptr() == address)


def _kept(value: Any, owner: object) -> Any:
    """The native value of ``value``, which keeps ``owner`` alive: it has no attributes of its own."""
    inside = unpacked(value)
    weakref.finalize(inside, _let_go, owner).atexit = False
    return inside


def _let_go(owner: object) -> None:
    """Drops what a value has kept."""
