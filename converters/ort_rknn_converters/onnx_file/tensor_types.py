"""Reads ONNX's messages about tensors: element types in onnxruntime's spelling, fixed shapes, constants in one form."""

from __future__ import annotations

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.onnx_file.schema import (
    GraphProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)
from ort_rknn_converters.tensor_info import TensorInfo

__all__ = ["FLOATS", "FP16_MAX", "bodies", "element_type", "fixed_shapes", "raw_constant", "type_string", "value_info"]

FP16_MAX = 65504.0
"""Largest finite fp16 number: what an NPU's tensor can hold."""

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
"""Element types whose magnitude can be too large for fp16."""


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


def fixed_shapes(graph: GraphProto) -> dict[str, tuple[int, ...]]:
    """The shapes of a graph's values, as far as all of their dimensions are written down as numbers."""
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            found.setdefault(value.name, tuple(dim.dim_value for dim in tensor.shape.dim))
    return found


def bodies(node: NodeProto) -> list[GraphProto]:
    """Returns the graphs that are attributes of a node, as those of ``If``, ``Loop`` and ``Scan``."""
    found: list[GraphProto] = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


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
