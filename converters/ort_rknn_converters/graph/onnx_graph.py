"""Reading and writing ONNX models as onnx-ir graphs, and the few facts about values everybody asks for.

onnx-ir has no map types and no sparse initializers; both are carried through here, so that every model
onnxruntime can open can be opened.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, EncodeError

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import ir_gaps
from ort_rknn_converters.graph.ir_gaps import dense, type_string
from ort_rknn_converters.graph.tensor_data import check_data
from ort_rknn_converters.onnx_file.protobuf_wire import PROTO_LIMIT
from ort_rknn_converters.onnx_file.weights import located
from ort_rknn_converters.tensor_info import TensorInfo
from ort_rknn_converters.util.foreign_text import shown
from ort_rknn_converters.util.own_files import NoRegularFile, open_regular

__all__ = [
    "Names",
    "constant",
    "dims",
    "in_files",
    "initializer",
    "innermost",
    "load",
    "load_weights",
    "many",
    "name_nodes",
    "original_name",
    "static_shape",
    "to_bytes",
    "to_proto",
    "type_string",
    "value_info",
    "walk",
]

_UNNAMED = "ort_rknn.unnamed"

_MOST_ELEMENTS = 2**59
"""So many elements of the largest type (16 bytes) are as many bytes as 64 bits with a sign count."""

ModelLike = str | os.PathLike[str] | bytes | onnx.ModelProto


_NOWHERE = logging.NullHandler()


def load(model: ModelLike) -> ir.Model:
    """Read an ONNX model.

    Args:
        model: A path, the file's bytes, or a ``ModelProto`` (left unchanged; its weights are shared, not copied).

    Returns:
        The model. Weights kept in other files stay there until they are asked for; their folder is that of ``model``
        (the working directory for bytes and protos).

    Raises:
        FileNotFoundError: No such file.
        ModelError: Not an ONNX model, or one without a graph.
    """
    name, file = "the model", Path("model.onnx")
    if isinstance(model, onnx.ModelProto):
        proto = model
    else:
        if isinstance(model, (bytes, bytearray, memoryview)):
            data = bytes(model)
        else:
            file = Path(model)
            name, data = str(file), _read(file)
        proto = _parse(data, name)

    if not proto.HasField("graph"):
        raise ModelError(f"{name} has no graph: it is not an ONNX model")
    check_data(proto)
    # What onnx-ir would say of a fault, we say in our own words; programs that want its log still get it.
    logging.getLogger("onnx_ir").addHandler(_NOWHERE)
    try:
        loaded = ir.from_proto(ir_gaps.hide_maps(dense(proto, str(file.parent))))
    except ModelError:
        raise
    except Exception as error:  # onnx-ir raises many kinds, all of which mean an invalid graph
        raise ModelError(f"{name} is not a valid ONNX graph: {innermost(error)}") from error
    ir.external_data.set_base_dir(loaded.graph, file.parent)
    for value, tensor in in_files(loaded):
        value.const_value = located(tensor, file)
    for imports in (loaded.opset_imports, *(function.opset_imports for function in loaded.functions.values())):
        if "ai.onnx" in imports:
            # The standard's domain has two names; onnx-ir has already given the nodes the shorter one.
            imports.setdefault("", imports.pop("ai.onnx"))
    _open_negative_dims(loaded)
    return loaded


def _open_negative_dims(model: ir.Model) -> None:
    """Dimensions written as -1 are open ones, as for onnxruntime; some exporters write them."""
    values = [
        *model.graph.inputs,
        *model.graph.outputs,
        *(value for node in walk(model.graph) for value in node.outputs),
    ]
    for value in values:
        if any(isinstance(dim, int) and dim < 0 for dim in value.shape or ()):
            value.shape = ir.Shape([None if isinstance(dim, int) and dim < 0 else dim for dim in value.shape or ()])


def load_weights(model: ir.Model, limit: int) -> None:
    """Read the weights that lie in other files, in place; what has more than ``limit`` bytes stays there."""
    for value, tensor in in_files(model):
        if tensor.nbytes <= limit:
            value.const_value = ir.external_data.convert_tensors_from_external([tensor])[0]


def in_files(model: ir.Model) -> list[tuple[ir.Value, ir.ExternalTensor]]:
    """The weights that lie in other files, and the values they are of."""
    values = (value for graph in _all_graphs(model) for value in graph.initializers.values())
    held = ((value, value.const_value) for value in values)
    return [(value, tensor) for value, tensor in held if isinstance(tensor, ir.ExternalTensor)]


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """The model as protobuf, every weight inside that a message can hold, also those in other files."""
    kept = [(value, tensor) for value, tensor in in_files(model) if tensor.nbytes <= PROTO_LIMIT]
    for value, tensor in kept:
        value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)
    try:
        return ir_gaps.show_maps(ir.serde.serialize_model(model))
    finally:
        for value, tensor in kept:
            value.const_value = tensor


def to_bytes(model: ir.Model) -> bytes:
    """The model as the bytes of an ONNX file, every weight inside.

    Raises:
        ModelError: It would be larger than 2 GB, more than one protobuf message can hold.
    """
    try:
        data: bytes = to_proto(model).SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelError("the model is larger than 2 GB and needs its weights in a second file") from error
    return data


def name_nodes(model: ir.Model) -> tuple[str, ...]:
    """Give every node of the main graph a unique, non-empty name; names that are already unique are kept.

    Nodes inside ``If``, ``Loop`` and ``Scan`` bodies are left alone: they are never placed on their own.

    Returns:
        A sentence saying how many names were made, if any.
    """
    names = Names(node.name for node in model.graph if node.name)
    seen: set[str] = set()
    made = 0
    for node in model.graph:
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        output = next((value.name for value in node.outputs if value.name), None)
        base = node.name or f"{node.op_type}_{output or 'node'}"
        node.meta[_UNNAMED] = not node.name
        node.name = names.new(base)
        seen.add(node.name)
        made += 1
    return (f"{many(made, 'node')} without a name of their own given one",) if made else ()


def many(count: int, noun: str) -> str:
    """``1 node``, ``2 nodes``: a count for a sentence."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def original_name(node: ir.Node) -> str:
    """The node's name in the model it came from, empty when :func:`name_nodes` made it up."""
    return "" if node.meta.get(_UNNAMED) else node.name or ""


class Names:
    """Gives out names that nothing else has; asking for the same one often stays cheap."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._count: dict[str, int] = {}

    def add(self, *names: str) -> None:
        """Take ``names``, whoever has them."""
        self._taken.update(names)

    def new(self, base: str) -> str:
        """``base``, or ``base_1``, ``base_2`` ...: one that was not taken, and is now."""
        name = base
        while name in self._taken:
            self._count[base] = self._count.get(base, 0) + 1
            name = f"{base}_{self._count[base]}"
        self._taken.add(name)
        return name


def value_info(value: ir.Value) -> TensorInfo:
    """Name, onnxruntime's type string and shape of ``value``; an unknown rank gives ``()`` as in onnxruntime."""
    shape = dims(value)
    return TensorInfo(value.name or "", type_string(value.type), () if shape is None else shape)


def dims(value: ir.Value) -> tuple[int | str | None, ...] | None:
    """Dimensions of ``value`` (a number, a symbol's name or ``None``), or ``None`` when not even the rank is known."""
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Dimensions of ``value`` when all of them are known numbers, else ``None``.

    Dimensions of more elements than a tensor can have are ``None`` too: no number of such elements or bytes, and no
    two such dimensions taken as one, would fit the 64 bits that ONNX and numpy count with.
    """
    if value is None or value.shape is None:
        return None
    shape = tuple(dim for dim in value.shape if isinstance(dim, int))
    possible = (math.prod(shape) or math.prod(dim or 1 for dim in shape)) <= _MOST_ELEMENTS
    return shape if possible and len(shape) == len(value.shape) else None


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of an initializer nobody can override, else ``None``.

    An initializer that is also a graph input may be fed by the caller, so it is no constant.
    """
    if value is None or not value.is_initializer() or value.is_graph_input():
        return None
    return value.const_value


def initializer(name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """A value that holds ``tensor``; the caller registers it with a graph."""
    if isinstance(tensor, ir.TensorProtoTensor):
        # Its name is that of somebody's protobuf message, which must not change; the data is shared.
        tensor = ir.Tensor(tensor.numpy(), dtype=tensor.dtype)
    tensor.name = name
    return ir.Value(
        name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
    )


def walk(graph: ir.Graph) -> list[ir.Node]:
    """Every node of ``graph`` and of the bodies inside it, as a list that survives changes to the graph."""
    return list(ir.traversal.RecursiveGraphIterator(graph))


def innermost(error: BaseException) -> str:
    """Finds the first cause of an error, in one line; onnx-ir wraps it once for every level of the graph."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).partition("\n")[0]


def _all_graphs(model: ir.Model) -> list[ir.Graph]:
    graphs = list(model.graphs())
    return graphs + [function.graph for function in model.functions.values()]


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise ModelError(f"{path} is a folder, not an ONNX file") from None
    except NoRegularFile as error:
        raise ModelError(f"{shown(path)} is not an ONNX file: {error.strerror}") from None


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    if not data:
        raise ModelError(f"{name} is empty")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise ModelError(f"{name} is not an ONNX file: protobuf cannot parse it") from None
    return proto
