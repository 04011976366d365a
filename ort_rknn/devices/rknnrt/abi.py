"""The binary interface of librknnrt 2.x for ctypes: structures, constants, error codes in words.

Values and layouts are the vendor's, the same as in ``ort_rknn/native/rknn_abi.h``; the sizes are checked on import.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    Structure,
    c_char,
    c_float,
    c_int,
    c_int8,
    c_int32,
    c_int64,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from enum import IntEnum, IntFlag
from typing import Any

import numpy as np

__all__ = [
    "NUMPY_OF",
    "TYPE_OF",
    "Custom",
    "Flag",
    "Format",
    "InOutNum",
    "InitExtend",
    "Input",
    "InputRange",
    "MemSize",
    "Output",
    "OutputExtend",
    "PerfDetail",
    "PerfRun",
    "Qnt",
    "Query",
    "RunExtend",
    "SdkVersion",
    "TensorAttr",
    "TensorMem",
    "TensorType",
    "prototypes",
]

MAX_DIMS = 16
MAX_NAME = 256
MAX_SHAPES = 512


class Query(IntEnum):
    """Commands of ``rknn_query``."""

    IN_OUT_NUM = 0
    INPUT_ATTR = 1
    OUTPUT_ATTR = 2
    PERF_DETAIL = 3
    PERF_RUN = 4
    SDK_VERSION = 5
    MEM_SIZE = 6
    CUSTOM_STRING = 7
    NATIVE_INPUT_ATTR = 8
    NATIVE_OUTPUT_ATTR = 9
    NATIVE_NHWC_INPUT_ATTR = 10
    NATIVE_NHWC_OUTPUT_ATTR = 11
    DEVICE_MEM_INFO = 12
    INPUT_DYNAMIC_RANGE = 13
    CURRENT_INPUT_ATTR = 14
    CURRENT_OUTPUT_ATTR = 15
    CURRENT_NATIVE_INPUT_ATTR = 16
    CURRENT_NATIVE_OUTPUT_ATTR = 17


class TensorType(IntEnum):
    """``rknn_tensor_type``."""

    FLOAT32 = 0
    FLOAT16 = 1
    INT8 = 2
    UINT8 = 3
    INT16 = 4
    UINT16 = 5
    INT32 = 6
    UINT32 = 7
    INT64 = 8
    BOOL = 9
    INT4 = 10
    BFLOAT16 = 11


class Format(IntEnum):
    """``rknn_tensor_format``."""

    NCHW = 0
    NHWC = 1
    NC1HWC2 = 2
    UNDEFINED = 3


class Qnt(IntEnum):
    """``rknn_tensor_qnt_type``."""

    NONE = 0
    DFP = 1
    AFFINE_ASYMMETRIC = 2


class Flag(IntFlag):
    """Flags of ``rknn_init`` that options can ask for (high priority is 0)."""

    PRIOR_MEDIUM = 0x1
    PRIOR_LOW = 0x2
    COLLECT_PERF = 0x8
    SHARE_WEIGHT_MEM = 0x20
    ENABLE_SRAM = 0x800
    SHARE_SRAM = 0x1000


NUMPY_OF: dict[int, np.dtype[Any]] = {
    TensorType[name.upper()].value: np.dtype(name)
    for name in ("float32", "float16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "bool")
}
TYPE_OF: dict[np.dtype[Any], int] = {dtype: value for value, dtype in NUMPY_OF.items()}


class InOutNum(Structure):
    """``rknn_input_output_num``."""

    _fields_ = (("n_input", c_uint32), ("n_output", c_uint32))


class TensorAttr(Structure):
    """``rknn_tensor_attr``."""

    _fields_ = (
        ("index", c_uint32),
        ("n_dims", c_uint32),
        ("dims", c_uint32 * MAX_DIMS),
        ("name", c_char * MAX_NAME),
        ("n_elems", c_uint32),
        ("size", c_uint32),
        ("fmt", c_int),
        ("type", c_int),
        ("qnt_type", c_int),
        ("fl", c_int8),
        ("zp", c_int32),
        ("scale", c_float),
        ("w_stride", c_uint32),
        ("size_with_stride", c_uint32),
        ("pass_through", c_uint8),
        ("h_stride", c_uint32),
    )


class InputRange(Structure):
    """``rknn_input_range``: the shapes a dynamic input may take."""

    _fields_ = (
        ("index", c_uint32),
        ("shape_number", c_uint32),
        ("fmt", c_int),
        ("name", c_char * MAX_NAME),
        ("dyn_range", (c_uint32 * MAX_DIMS) * MAX_SHAPES),
        ("n_dims", c_uint32),
    )


class PerfDetail(Structure):
    """``rknn_perf_detail``; the text belongs to the runtime."""

    _fields_ = (("perf_data", c_void_p), ("data_len", c_uint64))


class PerfRun(Structure):
    """``rknn_perf_run``, microseconds."""

    _fields_ = (("run_duration", c_int64),)


class SdkVersion(Structure):
    """``rknn_sdk_version``."""

    _fields_ = (("api_version", c_char * 256), ("drv_version", c_char * 256))


class MemSize(Structure):
    """``rknn_mem_size``, bytes."""

    _fields_ = (
        ("total_weight_size", c_uint32),
        ("total_internal_size", c_uint32),
        ("total_dma_allocated_size", c_uint64),
        ("total_sram_size", c_uint32),
        ("free_sram_size", c_uint32),
        ("reserved", c_uint32 * 10),
    )


class Custom(Structure):
    """``rknn_custom_string``."""

    _fields_ = (("string", c_char * 1024),)


class TensorMem(Structure):
    """``rknn_tensor_mem``."""

    _fields_ = (
        ("virt_addr", c_void_p),
        ("phys_addr", c_uint64),
        ("fd", c_int32),
        ("offset", c_int32),
        ("size", c_uint32),
        ("flags", c_uint32),
        ("priv_data", c_void_p),
    )


class Input(Structure):
    """``rknn_input``."""

    _fields_ = (
        ("index", c_uint32),
        ("buf", c_void_p),
        ("size", c_uint32),
        ("pass_through", c_uint8),
        ("type", c_int),
        ("fmt", c_int),
    )


class Output(Structure):
    """``rknn_output``."""

    _fields_ = (
        ("want_float", c_uint8),
        ("is_prealloc", c_uint8),
        ("index", c_uint32),
        ("buf", c_void_p),
        ("size", c_uint32),
    )


class InitExtend(Structure):
    """``rknn_init_extend``."""

    _fields_ = (
        ("ctx", c_uint64),
        ("real_model_offset", c_int32),
        ("real_model_size", c_uint32),
        ("model_buffer_fd", c_int32),
        ("model_buffer_flags", c_uint32),
        ("reserved", c_uint8 * 112),
    )


class RunExtend(Structure):
    """``rknn_run_extend``."""

    _fields_ = (("frame_id", c_uint64), ("non_block", c_int32), ("timeout_ms", c_int32), ("fence_fd", c_int32))


class OutputExtend(Structure):
    """``rknn_output_extend``."""

    _fields_ = (("frame_id", c_uint64),)


_SIZES: dict[type[Structure], int] = {
    InOutNum: 8,
    TensorAttr: 376,
    InputRange: 33040,
    PerfDetail: 16,
    PerfRun: 8,
    SdkVersion: 512,
    MemSize: 64,
    Custom: 1024,
    TensorMem: 40,
    Input: 32,
    Output: 24,
    InitExtend: 136,
    RunExtend: 24,
    OutputExtend: 8,
}
for _structure, _size in _SIZES.items():
    if ctypes.sizeof(_structure) != _size:  # a 32-bit Python: nothing below would work
        raise ImportError(f"{_structure.__name__} has {ctypes.sizeof(_structure)} bytes here, librknnrt's has {_size}")

_CONTEXT = c_uint64


def prototypes() -> dict[str, tuple[Any, list[Any]]]:
    """Name -> (result type, argument types) of every entry point this package calls."""
    mem = POINTER(TensorMem)
    return {
        "rknn_init": (c_int, [POINTER(_CONTEXT), c_void_p, c_uint32, c_uint32, POINTER(InitExtend)]),
        "rknn_dup_context": (c_int, [POINTER(_CONTEXT), POINTER(_CONTEXT)]),
        "rknn_destroy": (c_int, [_CONTEXT]),
        "rknn_query": (c_int, [_CONTEXT, c_int, c_void_p, c_uint32]),
        "rknn_set_core_mask": (c_int, [_CONTEXT, c_uint32]),
        "rknn_set_input_shapes": (c_int, [_CONTEXT, c_uint32, POINTER(TensorAttr)]),
        "rknn_inputs_set": (c_int, [_CONTEXT, c_uint32, c_void_p]),
        "rknn_run": (c_int, [_CONTEXT, c_void_p]),
        "rknn_outputs_get": (c_int, [_CONTEXT, c_uint32, c_void_p, c_void_p]),
        "rknn_outputs_release": (c_int, [_CONTEXT, c_uint32, c_void_p]),
        "rknn_create_mem": (mem, [_CONTEXT, c_uint32]),
        "rknn_create_mem_from_fd": (mem, [_CONTEXT, c_int32, c_void_p, c_uint32, c_int32]),
        "rknn_destroy_mem": (c_int, [_CONTEXT, mem]),
        "rknn_set_io_mem": (c_int, [_CONTEXT, mem, POINTER(TensorAttr)]),
        "rknn_mem_sync": (c_int, [_CONTEXT, mem, c_int]),
        "rknn_register_custom_ops": (c_int, [_CONTEXT, c_void_p, c_uint32]),
    }
