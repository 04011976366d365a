"""Bare calls of a librknnrt without the package's own checks, for questions that a careful caller never asks."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_uint32, c_uint64, sizeof
from typing import Any

from ort_rknn.devices.rknnrt.abi import InOutNum, Input, Output, Query, TensorAttr, prototypes

__all__ = ["ELEMENT_BYTES", "FORMATS", "TYPES", "RawContext", "RawRuntime", "describe"]

TYPES = ("f32", "f16", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "bool", "i4", "bf16")
"""The runtime's tensor types by number, in short."""

ELEMENT_BYTES = (4, 2, 1, 1, 2, 2, 4, 4, 8, 1, 1, 2)
"""Bytes of an element of each type."""

FORMATS = ("NCHW", "NHWC", "NC1HWC2", "UNDEF")
"""The runtime's layouts by number."""

_MORE = {
    "rknn_set_batch_core_num": (ctypes.c_int, [c_uint64, ctypes.c_int]),
    "rknn_create_mem": (ctypes.c_void_p, [c_uint64, c_uint32]),
    "rknn_destroy_mem": (ctypes.c_int, [c_uint64, ctypes.c_void_p]),
    "rknn_set_io_mem": (ctypes.c_int, [c_uint64, ctypes.c_void_p, ctypes.c_void_p]),
    "rknn_mem_sync": (ctypes.c_int, [c_uint64, ctypes.c_void_p, ctypes.c_int]),
    "rknn_init": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, c_uint32, c_uint32, ctypes.c_void_p]),
    "rknn_set_input_shapes": (ctypes.c_int, [c_uint64, c_uint32, ctypes.c_void_p]),
}


class RawRuntime:
    """A librknnrt with its entry points typed.

    Args:
        path: The library.
    """

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        for name, (result, arguments) in {**prototypes(), **_MORE}.items():
            function = getattr(self._library, name, None)
            if function is not None:
                function.restype, function.argtypes = result, arguments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, f"rknn_{name}")


class RawContext:
    """A context opened from a model's bytes.

    Args:
        runtime: The runtime.
        model: The ``.rknn``.

    Raises:
        RuntimeError: The runtime does not open it.
    """

    def __init__(self, runtime: RawRuntime, model: bytes) -> None:
        self.runtime = runtime
        handle = c_uint64()
        code = runtime.init(byref(handle), model, len(model), 0, None)
        if code:
            raise RuntimeError(f"rknn_init rc={code}")
        self.handle = handle.value
        counts = InOutNum()
        runtime.query(handle, Query.IN_OUT_NUM, byref(counts), sizeof(counts))
        self.inputs = [self.attr(Query.INPUT_ATTR, i)[1] for i in range(min(counts.n_input, 64))]
        self.outputs = [self.attr(Query.OUTPUT_ATTR, i)[1] for i in range(min(counts.n_output, 64))]
        self._alive: list[Any] = []

    def attr(self, command: Query, index: int) -> tuple[int, TensorAttr]:
        """Ask for a tensor's attributes; gives the return code too."""
        found = TensorAttr(index=index)
        return int(self.runtime.query(self.handle, command, byref(found), sizeof(found))), found

    def room(self, size: int) -> Any:
        """Zeros that live as long as this object."""
        block = ctypes.create_string_buffer(max(1, size) + 64)
        self._alive.append(block)
        return block

    def arrays(self, type_: int, *, fmt: int | None = None, pass_through: bool = False) -> Any:
        """All inputs as zeros of one type, exactly as large as the vendor documents."""
        items = (Input * (len(self.inputs) + 1))()
        for item, attr in zip(items, self.inputs, strict=False):
            item.index, item.type, item.pass_through = attr.index, type_, pass_through
            item.fmt = attr.fmt if fmt is None else fmt
            item.size = attr.size_with_stride if pass_through else attr.n_elems * ELEMENT_BYTES[type_]
            item.buf = ctypes.addressof(self.room(max(item.size, attr.n_elems * 8)))
        return items

    def set(self, items: Any, count: int | None = None) -> int:
        """``rknn_inputs_set``."""
        return int(self.runtime.inputs_set(self.handle, len(self.inputs) if count is None else count, items))

    def run(self) -> int:
        """``rknn_run``."""
        return int(self.runtime.run(self.handle, None))

    def slots(self, *, want_float: bool = True, less: int = 0, preallocated: bool = True) -> Any:
        """All outputs, in memory of our own or of the runtime's."""
        items = (Output * (len(self.outputs) + 1))()
        for item, attr in zip(items, self.outputs, strict=False):
            item.index, item.want_float, item.is_prealloc = attr.index, want_float, preallocated
            if preallocated:
                whole = attr.n_elems * (4 if want_float else ELEMENT_BYTES[attr.type])
                item.size = whole - less
                item.buf = ctypes.addressof(self.room(whole + max(0, -less)))
        return items

    def get(self, items: Any, count: int | None = None) -> int:
        """``rknn_outputs_get``."""
        return int(self.runtime.outputs_get(self.handle, len(self.outputs) if count is None else count, items, None))

    def release(self, items: Any) -> int:
        """``rknn_outputs_release``."""
        return int(self.runtime.outputs_release(self.handle, len(self.outputs), items))


def describe(label: str, attr: TensorAttr) -> str:
    """Attributes in one line."""
    dims = ",".join(map(str, attr.dims[: attr.n_dims]))
    return (
        f"{label:<22} idx={attr.index} {attr.name.decode(errors='replace')} dims=[{dims}] n_elems={attr.n_elems} "
        f"size={attr.size} fmt={_at(FORMATS, attr.fmt)} type={_at(TYPES, attr.type)} qnt={attr.qnt_type} fl={attr.fl} "
        f"zp={attr.zp} scale={attr.scale:g} w_stride={attr.w_stride} sws={attr.size_with_stride} "
        f"pt={attr.pass_through} h_stride={attr.h_stride}"
    )


def _at(names: Sequence[str], number: int) -> str:
    return names[number] if 0 <= number < len(names) else str(number)
