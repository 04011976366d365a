"""Libraries with operators of the user's own, which the vendor's runtime wants to be told of for every context.

A library exports ``get_rknn_custom_op``, whose answer is handed on untouched; of the structure behind it only its first
fields (version, target, op type: the vendor's header ``rknn_custom_op.h``) are read. Never run on a board.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path
from typing import Any

from ort_rknn.devices.library_name import open_library
from ort_rknn.devices.rknnrt.library import RuntimeLibrary, failure
from ort_rknn.errors import DeviceError
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.log import logger

__all__ = ["DEFAULT_FOLDER", "CustomOp", "find_custom_ops", "load_custom_ops", "register"]

DEFAULT_FOLDER = "/usr/lib/rknpu/op_plugins"
"""Where the vendor's runtime manual has such libraries; their names begin with ``librkcst_``."""

ENTRY = "get_rknn_custom_op"
TARGETS = {1: "CPU", 2: "NPU", 3: "GPU"}


class _Head(ctypes.Structure):
    """The beginning of ``rknn_custom_op``."""

    _fields_ = (("version", ctypes.c_uint32), ("target", ctypes.c_int), ("op_type", ctypes.c_char * 256))


@frozen
class CustomOp:
    """One operator.

    Attributes:
        path: Its library.
        op_type: Its name in the ONNX model.
        version: As the library says.
        target: What it runs on, as the vendor numbers it.
        address: The structure, which lives as long as the library.
        library: The opened library.
    """

    path: str
    op_type: str
    version: int
    target: int
    address: int
    library: Any = field(repr=False, compare=False)


def find_custom_ops(folder: str | os.PathLike[str] = DEFAULT_FOLDER) -> tuple[str, ...]:
    """The libraries in the folder for them, in the order of their names."""
    return tuple(map(str, sorted(Path(folder).glob("librkcst_*.so"))))


def load_custom_ops(paths: Iterable[str | os.PathLike[str]]) -> tuple[CustomOp, ...]:
    """Open libraries. One that cannot be used is warned of and left out: a model may not need it.

    Raises:
        DeviceError: Two of them bring the same operator in the same version for the same target.
    """
    found: dict[tuple[str, int, int], CustomOp] = {}
    for path in dict.fromkeys(os.fspath(path) for path in paths):
        op = _open(path)
        if op is None:
            continue
        other = found.setdefault((op.op_type, op.version, op.target), op)
        if other is not op:
            raise DeviceError(
                f"{other.path} and {op.path} both bring the custom operator {op.op_type} version {op.version} for "
                f"{TARGETS.get(op.target, op.target)}; keep one of them"
            )
    return tuple(found.values())


def _open(path: str) -> CustomOp | None:
    try:
        library = open_library(path)
        entry = getattr(library, ENTRY)
    except OSError as error:
        logger().warning("the custom operators in %s are left out: %s", path, error)
        return None
    except AttributeError:
        logger().warning("the custom operators in %s are left out: it has no function %s", path, ENTRY)
        return None
    entry.restype = ctypes.c_void_p
    entry.argtypes = []
    address = entry()
    if not address:
        logger().warning("the custom operators in %s are left out: %s gave nothing", path, ENTRY)
        return None
    head = _Head.from_address(address)
    return CustomOp(path, head.op_type.decode(errors="replace"), head.version, head.target, address, library)


def register(library: RuntimeLibrary, handle: int, ops: Iterable[CustomOp]) -> None:
    """Tell a context of them.

    Raises:
        DeviceError: The runtime refused one, or is too old to know custom operators.
    """
    for op in ops:
        code = library.function("rknn_register_custom_ops")(handle, op.address, 1)
        if code:
            raise failure("rknn_register_custom_ops", code, f"Operator {op.op_type} of {op.path}")
