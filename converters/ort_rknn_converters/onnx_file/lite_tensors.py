"""Tensors without the package onnx-ir: type, shape and bytes of a weight, in memory or in a file, for opening a model.

Names and arguments are those of onnx-ir, as far as they are used. Types that numpy lacks are whole numbers of the same
width here: nobody computes with them, they are passed on.
"""

from __future__ import annotations

import mmap
from enum import IntEnum
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn_converters.onnx_file import lite_messages as messages

__all__ = ["DataType", "ExternalTensor", "Shape", "Tensor", "TensorProtocol", "serde"]

_BITS = {"UNDEFINED": 0, "STRING": 0, "BOOL": 8, "FLOAT": 32, "DOUBLE": 64, "COMPLEX64": 64, "COMPLEX128": 128}


class DataType(IntEnum):
    """ONNX's element types, by the number they have in messages."""

    UNDEFINED = 0
    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    COMPLEX64 = 14
    COMPLEX128 = 15
    BFLOAT16 = 16
    FLOAT8E4M3FN = 17
    FLOAT8E4M3FNUZ = 18
    FLOAT8E5M2 = 19
    FLOAT8E5M2FNUZ = 20
    UINT4 = 21
    INT4 = 22
    FLOAT4E2M1 = 23
    FLOAT8E8M0 = 24
    UINT2 = 25
    INT2 = 26
    FLOAT6E2M3 = 27
    FLOAT6E3M2 = 28

    @property
    def bitwidth(self) -> int:
        """Bits of an element: of most types the first number in the name."""
        if self.name in _BITS:
            return _BITS[self.name]
        return int("".join(one if one.isdigit() else " " for one in self.name).split()[0])

    def numpy(self) -> np.dtype[Any]:
        """The numpy type that holds it."""
        known = messages.numpy_type(self.value)
        return known if known is not None else np.dtype(f"uint{max(8, self.bitwidth)}")


class Shape(tuple[int, ...]):
    """Sizes of all dimensions."""

    def numpy(self) -> tuple[int, ...]:
        """The sizes as numbers."""
        return tuple(self)


class TensorProtocol:
    """A tensor, wherever its data are.

    Attributes:
        name: Of the value.
        dtype: Element type.
        shape: Sizes.
    """

    def __init__(self, name: str, dtype: Any, shape: Any) -> None:
        self.name = name
        self.dtype = DataType(int(dtype))
        self.shape = Shape(int(dim) for dim in shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return (prod(self.shape) * int(self.dtype.bitwidth) + 7) // 8

    def numpy(self) -> NDArray[Any]:
        """The data as an array; of types below a byte, the bytes."""
        data = np.frombuffer(self.buffer(), self.dtype.numpy())
        return data.reshape(self.shape) if self.dtype.bitwidth >= 8 else data

    def tobytes(self) -> bytes:
        """The data as ONNX writes them."""
        return bytes(self.buffer())

    def buffer(self) -> Any:
        """The data, not copied."""
        raise NotImplementedError


class Tensor(TensorProtocol):
    """A tensor in memory.

    Args:
        value: An array.
        dtype: Default: the array's.
        name: Of the value.
    """

    def __init__(self, value: NDArray[Any], dtype: Any = None, *, name: str | None = None) -> None:
        element = messages.np_dtype_to_tensor_dtype(value.dtype) if dtype is None else dtype
        super().__init__(name or "", element, value.shape)
        self._value = value

    def numpy(self) -> NDArray[Any]:
        """The array."""
        return self._value

    def buffer(self) -> Any:
        """The array's bytes."""
        return np.ascontiguousarray(self._value).reshape(-1).view(np.uint8).data


class _Raw(TensorProtocol):
    """A tensor of bytes as ONNX writes them."""

    def __init__(self, name: str, dtype: Any, shape: Any, data: bytes) -> None:
        super().__init__(name, dtype, shape)
        if len(data) != self.nbytes:
            raise ValueError(f"the tensor {name!r} has {len(data)} bytes, and its shape says {self.nbytes}")
        self._data = data

    def buffer(self) -> Any:
        """The bytes."""
        return self._data


class ExternalTensor(TensorProtocol):
    """A tensor in a file of its own, mapped when it is used.

    Args:
        location: The file.
        offset: Where its data begin; none: at the beginning.
        length: Bytes; none: as the shape says.
        dtype: Element type.
        shape: Sizes.
        name: Of the value.
    """

    def __init__(
        self, location: Any, offset: int | None, length: int | None, dtype: Any, *, shape: Any, name: str
    ) -> None:
        super().__init__(name, dtype, shape)
        self.location = str(location)
        self.offset = offset
        self.length = length

    @property
    def path(self) -> str:
        """The file's path."""
        return self.location

    @cached_property
    def _mapped(self) -> memoryview:
        begin, size = self.offset or 0, self.nbytes
        if self.length not in (None, size):
            raise ValueError(f"the tensor {self.name!r} has {self.length} bytes, and its shape says {size}")
        with Path(self.location).open("rb") as file:
            if file.seek(0, 2) < begin + size:
                raise ValueError(f"{self.location} is too short for the tensor {self.name!r}")
            if not size:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[begin : begin + size]

    def buffer(self) -> Any:
        """The file's part."""
        return self._mapped


class serde:
    """Between messages and tensors."""

    @staticmethod
    def deserialize_tensor(proto: Any) -> TensorProtocol:
        """Returns a message's tensor."""
        if proto.data_location == messages.TensorProto.EXTERNAL:
            found = {entry.key: entry.value for entry in proto.external_data}
            offset, length = (int(found[key]) if key in found else None for key in ("offset", "length"))
            return ExternalTensor(
                found.get("location", ""), offset, length, proto.data_type, shape=proto.dims, name=proto.name
            )
        data = proto.raw_data if proto.HasField("raw_data") else messages.to_array(proto).tobytes()
        return _Raw(proto.name, proto.data_type, proto.dims, data)

    @staticmethod
    def serialize_tensor_into(proto: Any, tensor: TensorProtocol) -> None:
        """Writes a tensor into a message; one in a file stays there."""
        proto.name, proto.data_type = tensor.name, int(tensor.dtype)
        del proto.dims[:]
        proto.dims.extend(tensor.shape)
        if not isinstance(tensor, ExternalTensor):
            proto.raw_data = tensor.tobytes()
            return
        proto.data_location = messages.TensorProto.EXTERNAL
        for key, value in (("location", tensor.location), ("offset", tensor.offset), ("length", tensor.length)):
            if value is not None:
                proto.external_data.add(key=key, value=str(value))
