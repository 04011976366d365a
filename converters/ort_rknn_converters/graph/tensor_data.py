"""Refuses constants whose data are not what their dimensions say, before anybody makes room for them.

onnx-ir believes the dimensions, and fills what is missing with zeros: 80 bytes could ask for 4 TB.
"""

from __future__ import annotations

from math import prod

import onnx
from onnx import TensorProto

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.onnx_file.split_model import tensors
from ort_rknn_converters.onnx_file.weights import is_known, size_of
from ort_rknn_converters.util.foreign_text import shown

__all__ = ["check_data"]

_PARTS: dict[int, int] = {TensorProto.COMPLEX64: 2, TensorProto.COMPLEX128: 2}
_LISTS: dict[int, str] = {
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.COMPLEX64), "float_data"),
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.COMPLEX128), "double_data"),
    **dict.fromkeys((TensorProto.UINT32, TensorProto.UINT64), "uint64_data"),
    TensorProto.INT64: "int64_data",
    TensorProto.STRING: "string_data",
}
"""Fields that hold a tensor's elements, of the types that are not in ``int32_data``."""


def check_data(proto: onnx.ModelProto) -> None:
    """Look at every constant of a model, those in other files excepted.

    Raises:
        ModelError: One has more elements than data, or fewer, or a negative dimension.
    """
    for tensor in tensors(proto):
        if tensor.data_location == TensorProto.EXTERNAL or not is_known(tensor):
            continue
        what = f"the model is invalid: the constant {shown(tensor.name)} of shape {shown(list(tensor.dims))}"
        if any(dim < 0 for dim in tensor.dims):
            raise ModelError(f"{what} has a negative dimension")
        if tensor.HasField("raw_data") and tensor.data_type != TensorProto.STRING:
            held, needed, unit = len(tensor.raw_data), size_of(tensor), "bytes"
        else:
            held = len(getattr(tensor, _LISTS.get(tensor.data_type, "int32_data")))
            needed, unit = prod(tensor.dims) * _PARTS.get(tensor.data_type, 1), "elements"
            if held < needed and tensor.data_type not in _LISTS:
                needed = min(needed, size_of(tensor))  # two or more of few bits are one element
        if held != needed:
            raise ModelError(f"{what} holds {held:,} {unit} of data, and needs {needed:,}")
