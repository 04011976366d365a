"""ONNX's messages without the package onnx: made of their descriptor by protobuf, with the helpers that opening uses.

The descriptor is onnx 1.23's own (``onnx-ml.desc``, Apache 2.0), 6 kB instead of 60 MB. The functions have the names
and the arguments of ``onnx.helper`` and ``onnx.numpy_helper``, as far as they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pool, message_factory
from numpy.typing import NDArray

__all__ = [
    "AttributeProto",
    "FunctionProto",
    "GraphProto",
    "ModelProto",
    "NodeProto",
    "OperatorSetIdProto",
    "TensorProto",
    "TypeProto",
    "ValueInfoProto",
    "from_array",
    "get_attribute_value",
    "make_attribute",
    "make_graph",
    "make_model",
    "make_node",
    "make_operatorsetid",
    "make_opsetid",
    "make_optional_type_proto",
    "make_sequence_type_proto",
    "make_tensor",
    "make_tensor_type_proto",
    "make_tensor_value_info",
    "make_value_info",
    "np_dtype_to_tensor_dtype",
    "numpy_type",
    "set_model_props",
    "to_array",
]

_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(Path(__file__).with_name("onnx-ml.desc").read_bytes())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"onnx.{name}"))


AttributeProto = _message("AttributeProto")
FunctionProto = _message("FunctionProto")
GraphProto = _message("GraphProto")
ModelProto = _message("ModelProto")
NodeProto = _message("NodeProto")
OperatorSetIdProto = _message("OperatorSetIdProto")
TensorProto = _message("TensorProto")
TypeProto = _message("TypeProto")
ValueInfoProto = _message("ValueInfoProto")

_IR_VERSION = 10  # what onnxruntime 1.20, the oldest we take, reads
_OPSET = 21
_NUMPY = {
    "FLOAT": "float32",
    "UINT8": "uint8",
    "INT8": "int8",
    "UINT16": "uint16",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "FLOAT16": "float16",
    "DOUBLE": "float64",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "COMPLEX64": "complex64",
    "COMPLEX128": "complex128",
}
_ELEMENT = {np.dtype(name): TensorProto.DataType.Value(element) for element, name in _NUMPY.items()}
_DTYPE = {element: dtype for dtype, element in _ELEMENT.items()}


def np_dtype_to_tensor_dtype(dtype: np.dtype[Any]) -> int:
    """Returns ONNX's number of a numpy type."""
    return int(_ELEMENT[np.dtype(dtype)])


def numpy_type(element: int) -> np.dtype[Any] | None:
    """Returns the numpy type of an ONNX element type; ``None`` where numpy has none."""
    return _DTYPE.get(element)


def make_opsetid(domain: str, version: int) -> Any:
    """Makes an entry of a model's opsets."""
    return OperatorSetIdProto(domain=domain, version=version)


make_operatorsetid = make_opsetid


def make_attribute(key: str, value: Any) -> Any:
    """Makes an attribute of a number, a text, a type, or a list of numbers or texts."""
    attribute = AttributeProto(name=key)
    if isinstance(value, (bool, int, np.integer)):
        attribute.type, attribute.i = AttributeProto.INT, int(value)
    elif isinstance(value, (float, np.floating)):
        attribute.type, attribute.f = AttributeProto.FLOAT, float(value)
    elif isinstance(value, (str, bytes)):
        attribute.type, attribute.s = AttributeProto.STRING, value.encode() if isinstance(value, str) else value
    elif isinstance(value, TypeProto):
        attribute.type = AttributeProto.TYPE_PROTO
        attribute.tp.CopyFrom(value)
    elif all(isinstance(one, (int, np.integer)) for one in value):
        attribute.type = AttributeProto.INTS
        attribute.ints.extend(map(int, value))
    elif all(isinstance(one, (str, bytes)) for one in value):
        attribute.type = AttributeProto.STRINGS
        attribute.strings.extend(one.encode() if isinstance(one, str) else one for one in value)
    else:
        raise TypeError(f"no attribute is made of {value!r} here: install ort-rknn[convert]")
    return attribute


_FIELDS = {
    "FLOAT": "f",
    "INT": "i",
    "STRING": "s",
    "TENSOR": "t",
    "GRAPH": "g",
    "SPARSE_TENSOR": "sparse_tensor",
    "TYPE_PROTO": "tp",
}


def get_attribute_value(attribute: Any) -> Any:
    """Returns what an attribute holds."""
    kind = AttributeProto.AttributeType.Name(attribute.type)
    if kind in _FIELDS:
        return getattr(attribute, _FIELDS[kind])
    several = {"FLOATS": "floats", "INTS": "ints", "STRINGS": "strings", "TENSORS": "tensors", "GRAPHS": "graphs"}
    return list(getattr(attribute, {**several, "TYPE_PROTOS": "type_protos"}[kind]))


def make_node(
    op_type: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    name: str | None = None,
    doc_string: str | None = None,
    domain: str | None = None,
    **attributes: Any,
) -> Any:
    """Makes a node."""
    node = NodeProto(op_type=op_type, input=inputs, output=outputs)
    for field, value in (("name", name), ("doc_string", doc_string), ("domain", domain)):
        if value:
            setattr(node, field, value)
    node.attribute.extend(make_attribute(key, attributes[key]) for key in sorted(attributes))
    return node


def make_tensor(name: str, data_type: int, dims: Sequence[int], vals: Any) -> Any:
    """Makes a constant, its data as raw bytes."""
    array = np.asarray(vals, _DTYPE[data_type]).reshape(dims)
    return TensorProto(name=name, data_type=data_type, dims=dims, raw_data=array.tobytes())


def make_tensor_type_proto(elem_type: int, shape: Sequence[int | str | None] | None) -> Any:
    """Makes the type of a tensor; no shape: an unknown rank."""
    kind = TypeProto()
    kind.tensor_type.elem_type = elem_type
    if shape is not None:
        kind.tensor_type.shape.SetInParent()
        for dim in shape:
            entry = kind.tensor_type.shape.dim.add()
            if isinstance(dim, str):
                entry.dim_param = dim
            elif dim is not None:
                entry.dim_value = int(dim)
    return kind


def make_sequence_type_proto(inner: Any) -> Any:
    """Makes the type of a sequence."""
    kind = TypeProto()
    kind.sequence_type.elem_type.CopyFrom(inner)
    return kind


def make_optional_type_proto(inner: Any) -> Any:
    """Makes the type of an optional value."""
    kind = TypeProto()
    kind.optional_type.elem_type.CopyFrom(inner)
    return kind


def make_value_info(name: str, type_proto: Any) -> Any:
    """Makes the declaration of a value."""
    return ValueInfoProto(name=name, type=type_proto)


def make_tensor_value_info(name: str, elem_type: int, shape: Sequence[int | str | None] | None) -> Any:
    """Makes the declaration of a tensor."""
    return make_value_info(name, make_tensor_type_proto(elem_type, shape))


def make_graph(
    nodes: Iterable[Any], name: str, inputs: Iterable[Any], outputs: Iterable[Any], initializer: Iterable[Any] = ()
) -> Any:
    """Makes a graph."""
    graph = GraphProto(name=name)
    for field, values in (("node", nodes), ("input", inputs), ("output", outputs), ("initializer", initializer)):
        getattr(graph, field).extend(values)
    return graph


def make_model(graph: Any, *, opset_imports: Sequence[Any] | None = None, **fields: Any) -> Any:
    """Makes a model."""
    model = ModelProto(**{"ir_version": _IR_VERSION, **fields})
    model.graph.CopyFrom(graph)
    model.opset_import.extend([make_opsetid("", _OPSET)] if opset_imports is None else opset_imports)
    return model


def set_model_props(model: Any, properties: Mapping[str, str]) -> None:
    """Replaces a model's metadata."""
    del model.metadata_props[:]
    for key, value in properties.items():
        model.metadata_props.add(key=key, value=value)


def to_array(tensor: Any) -> NDArray[Any]:
    """Returns a tensor's data as numpy has them.

    Raises:
        TypeError: Of a type that numpy lacks, not given as raw bytes.
    """
    dtype = _DTYPE.get(tensor.data_type)
    if dtype is None:
        name = TensorProto.DataType.Name(tensor.data_type)
        raise TypeError(f"a constant of type {name} cannot be read here: install ort-rknn[convert]")
    dims = tuple(tensor.dims)
    if tensor.HasField("raw_data"):
        return np.frombuffer(tensor.raw_data, dtype).reshape(dims)
    if dtype == np.float16:  # its bits, in whole numbers
        return np.asarray(tensor.int32_data, np.uint16).view(np.float16).reshape(dims)
    if dtype.kind == "c":
        parts = tensor.float_data if dtype == np.complex64 else tensor.double_data
        return np.asarray(parts, "f4" if dtype == np.complex64 else "f8").view(dtype).reshape(dims)
    field = {"float32": "float_data", "float64": "double_data", "int64": "int64_data"}
    field |= {"uint32": "uint64_data", "uint64": "uint64_data"}
    return np.asarray(getattr(tensor, field.get(dtype.name, "int32_data"))).astype(dtype).reshape(dims)


def from_array(array: NDArray[Any], name: str = "") -> Any:
    """Makes a constant of an array."""
    return make_tensor(name, np_dtype_to_tensor_dtype(array.dtype), array.shape, array)
