"""The FlatBuffer in a ``.rknn`` file: the compiled graph, its tensors and nodes, and the texts that describe it.

There is no schema; what each slot of a table holds was found by comparing many files of toolkit 2.3.2 and 2.5.0.
"""

from __future__ import annotations

import re

from ort_rknn_converters.rknn_format.flatbuffer import Damaged, FlatBuffer, Table
from ort_rknn_converters.rknn_format.literals import as_list, as_mapping, as_sizes, as_text, parse_literal
from ort_rknn_converters.rknn_format.values import Quantization, RknnFile, RknnIO, RknnNode, RknnSubgraph, RknnTensor

__all__ = ["DYNAMIC", "IDENTIFIER", "read_graph"]

IDENTIFIER = b"RKNN"
"""First bytes of a ``.rknn`` file, and the identifier of the FlatBuffer in it."""

DYNAMIC = "dynamic_shape"
"""The graph's kind when it was compiled for sets of input shapes."""

_VERSION = re.compile(r"(?P<toolkit>[^()]*?)\s*\(compiler version: (?P<compiler>.*)\)\s*$", re.DOTALL)

# The numbers of ONNX's TensorProto.DataType, which the compiler uses too.
_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
    64: "int4",  # the compiler's own number; weights only
}
_KINDS = {
    1: "input",
    2: "output",
    3: "internal",
    4: "constant",
    5: "constant",
    8: "constant",
    9: "commands",
    10: "tasks",
}
_NATIVE_LAYOUTS = {0: "", 0x40: "NC1HWC2", 0x41: "weights"}
_PLACEMENTS = {0: "CPU", 1: "GPU", 2: "NPU"}


def read_graph(data: memoryview, format_version: int, size: int) -> RknnFile:
    """Read all that a ``.rknn`` file's graph says of the file.

    Args:
        data: The FlatBuffer.
        format_version: Of the file.
        size: Of the file, in bytes.

    Raises:
        ValueError: Something in it cannot be right.
    """
    if data[4:8] != IDENTIFIER:
        raise Damaged("its graph is not in the form this reader knows (the small SoCs have another one)")
    root = FlatBuffer(data).root()
    subgraphs = tuple(map(_subgraph, root.tables(2)))
    if not subgraphs:
        raise Damaged("no graph in it")
    inputs, outputs = _sides(root, subgraphs[0])
    version = _VERSION.match(root.text(7))
    return RknnFile(
        format_version=format_version,
        size=size,
        target=root.text(8),
        family=root.text(1),
        framework=root.text(9),
        toolkit_version=version["toolkit"] if version else root.text(7),
        compiler=version["compiler"] if version else "",
        custom_string=root.text(11),
        dynamic=root.text(16) == DYNAMIC,
        inputs=inputs,
        outputs=outputs,
        subgraphs=subgraphs,
    )


def _subgraph(table: Table) -> RknnSubgraph:
    tensors = tuple(map(_tensor, table.tables(0)))

    def names(ids: tuple[int, ...]) -> tuple[str, ...]:
        if not all(0 <= number < len(tensors) for number in ids):
            raise Damaged("a tensor that does not exist is used")
        return tuple(tensors[number].name for number in ids)

    nodes = tuple(
        RknnNode(
            op_type=node.text(1),
            name=node.text(2),
            placement=_PLACEMENTS.get(node.number(3, "B"), "other"),
            inputs=names(node.integers(4)),
            outputs=names(node.integers(5)),
        )
        for node in table.tables(1)
    )
    return RknnSubgraph(tensors, nodes, names(table.integers(2)), names(table.integers(3)))


def _tensor(table: Table) -> RknnTensor:
    scale, layout = table.floats(10), table.number(1, "B")
    quantization = None
    dtype = _DTYPES.get(table.number(0, "B"), f"type {table.number(0, 'B')}")
    if scale and dtype not in ("float16", "float32"):
        quantization = Quantization(scale, table.integers(11), table.floats(8), table.floats(9))
    return RknnTensor(
        name=table.text(5),
        dtype=dtype,
        dims=as_sizes(list(table.integers(4))),
        kind=_KINDS.get(table.number(2, "B"), "other"),
        native_layout=_NATIVE_LAYOUTS.get(layout, str(layout)),
        size=table.number(12, "I"),
        quantization=quantization,
    )


def _sides(root: Table, graph: RknnSubgraph) -> tuple[tuple[RknnIO, ...], tuple[RknnIO, ...]]:
    """Inputs and outputs, put together from the graph and the three texts that describe them."""
    notes = as_mapping(parse_literal(root.text(3) or "{}"))
    attributes, shapes = as_mapping(notes.get("attrs", {})), as_mapping(notes.get("dynamic_shapes", {}))
    tensors = {tensor.name: tensor for tensor in graph.tensors}

    def side(names: tuple[str, ...], slot: int) -> tuple[RknnIO, ...]:
        devices = as_mapping(parse_literal(root.text(slot) or "{}"))
        found = []
        for name in names:
            tensor, device = tensors[name], as_mapping(devices.get(name, {}))
            attribute = as_mapping(attributes.get(name, {}))
            index = attribute.get("idx")
            found.append(
                RknnIO(
                    name=name,
                    dims=tensor.dims,
                    dtype=as_text(attribute.get("dtype")),
                    device_dtype=as_text(device.get("dtype")) or tensor.dtype,
                    layout=as_text(device.get("layout")),
                    index=index if type(index) is int else None,
                    quantization=tensor.quantization,
                    shapes=tuple(map(as_sizes, as_list(shapes.get(name, [])))),
                )
            )
        return tuple(found)

    return side(graph.inputs, 12), side(graph.outputs, 13)
