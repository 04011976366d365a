"""The calls that open a context, for runtimes that differ in what they take."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ort_rknn.devices.base import AUTO
from ort_rknn.devices.rknnrt.abi import Flag, InitExtend
from ort_rknn.devices.rknnrt.library import RuntimeLibrary, error_name, failure
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.devices.base import Blob

__all__ = ["CoreMasks", "holds_shapes", "init"]

_OTHER_WAY = (-1, -5)
"""RKNN_ERR_FAIL and PARAM_INVALID: what a runtime may say that knows only paths, or only bytes."""


def init(library: RuntimeLibrary, blob: Blob, flags: int, lender: int = 0) -> tuple[int, int]:
    """``rknn_init``, by path where there is one: then nobody keeps a copy of the file. If that fails, the other way.

    Args:
        library: The runtime.
        blob: The compiled code.
        flags: Of ``rknn_init``.
        lender: Context whose weights are to be shared; 0: none.

    Returns:
        The runtime's first code, or 0; and the new context.
    """
    flags |= Flag.SHARE_WEIGHT_MEM if lender else 0
    handle, extend = ctypes.c_uint64(), InitExtend(ctx=lender)
    open_with = library.function("rknn_init")

    def by_path(path: str) -> int:
        code: int = open_with(ctypes.byref(handle), os.fsencode(path), 0, flags, ctypes.byref(extend))
        return code

    def by_bytes(data: bytes) -> int:
        code: int = open_with(ctypes.byref(handle), data, len(data), flags, ctypes.byref(extend))
        return code

    if blob.path is not None:
        code = by_path(blob.path)
        again = by_bytes(blob.read()) if code in _OTHER_WAY else code
    else:
        data = blob.read()
        code = by_bytes(data)
        again = _by_file(data, by_path) if code in _OTHER_WAY else code
    return code if again else 0, handle.value


def holds_shapes(code: str | bytes) -> bool:
    """Whether compiled code was made for sets of input shapes, of which one must be chosen before anything else.

    The file says so: most questions to the runtime would be the mistake already.

    Args:
        code: Its path, or its bytes.

    Raises:
        OSError: It cannot be read.
    """
    from ort_rknn_converters.rknn_format.reader import is_dynamic

    return is_dynamic(code)


def _by_file(data: bytes, by_path: Callable[[str], int]) -> int:
    """Open a copy of the bytes in memory by a path that only this process has."""
    with os.fdopen(os.memfd_create("rknn"), "wb") as file:
        file.write(data)
        file.flush()
        return by_path(f"/proc/self/fd/{file.fileno()}")


class CoreMasks:
    """Puts contexts on their cores. Where the runtime refuses the first mask it is given, the driver chooses the cores.

    Chips with one core have no masks (-13), and so have runtimes that know only such chips.
    """

    def __init__(self) -> None:
        self._taken: bool | None = None

    def put(self, library: RuntimeLibrary, handle: int, mask: int) -> int:
        """Set a context's mask; gives the one in effect.

        Raises:
            DeviceError: It is refused, and another was taken.
        """
        if mask == AUTO or self._taken is False:
            return AUTO
        code = library.function("rknn_set_core_mask")(handle, mask)
        if code and self._taken:
            raise failure("rknn_set_core_mask", code, f"Core mask {mask:#x}")
        self._taken = not code
        if code:
            name = error_name(code)
            logger().warning("the runtime takes no core masks (%s for %#x): the driver chooses the cores", name, mask)
            return AUTO
        return mask
