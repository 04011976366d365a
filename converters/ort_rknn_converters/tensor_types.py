"""onnxruntime's spelling of element types (``tensor(float)``) against ONNX's numbers; constants in one form."""

from __future__ import annotations

from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.plan import TensorInfo

__all__ = ["element_type", "raw_constant", "type_string", "value_info"]


def element_type(text: str) -> int:
    """``tensor(float) -> TensorProto.FLOAT``.

    Raises:
        ModelError: Not a tensor type.
    """
    name = text.removeprefix("tensor(").removesuffix(")")
    try:
        return int(TensorProto.DataType.Value(name.upper()))
    except ValueError:
        raise ModelError(f"{text!r} is not a tensor type") from None


def type_string(elem: int) -> str:
    """``TensorProto.FLOAT -> tensor(float)``."""
    return f"tensor({TensorProto.DataType.Name(elem).lower()})"


def value_info(tensor: TensorInfo) -> ValueInfoProto:
    """The ONNX declaration of a boundary value."""
    return helper.make_tensor_value_info(tensor.name, element_type(tensor.dtype), list(tensor.shape))


def raw_constant(tensor: TensorProto) -> TensorProto:
    """The one way to write a constant: name, type and data, the data as raw bytes (strings cannot be)."""
    plain = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    if tensor.data_type == TensorProto.STRING:
        plain.string_data.extend(tensor.string_data)
    elif tensor.HasField("raw_data"):
        plain.raw_data = tensor.raw_data
    else:
        plain.raw_data = numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
    return plain
