"""Reads ``.rknn`` files, anybody's: what goes in and out, for which SoC, made by what, and what runs where.

The format is the vendor's and undocumented; what is known of it was found by comparing many files of toolkit 2.3.2 and
2.5.0. A file is a header of 64 bytes, a FlatBuffer, and a JSON text. Where the FlatBuffer cannot be read (the mini
format of rv110x and rk2118 is another one) the JSON still tells names, order and dims. No bytes, however mangled, make
the reader do more than raise :class:`~ort_rknn_converters.errors.CompiledModelError`.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.flatbuffer import Damaged, FlatBuffer, Table
from ort_rknn_converters.frozen import frozen
from ort_rknn_converters.literal import parse

__all__ = ["Quantization", "RknnFile", "RknnIO", "RknnNode", "RknnSubgraph", "RknnTensor", "is_rknn", "read"]

MAGIC = b"RKNN\0\0\0\0"
HEADER = 64
MOST_DIMS = 64
_VERSION = re.compile(r"(?P<toolkit>[^()]*?)\s*\(compiler version: (?P<compiler>.*)\)\s*$", re.DOTALL)

# The numbers of ONNX's TensorProto.DataType, which the compiler uses too.
DTYPES = {
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
KINDS = {
    1: "input",
    2: "output",
    3: "internal",
    4: "constant",
    5: "constant",
    8: "constant",
    9: "commands",
    10: "tasks",
}
NATIVE_LAYOUTS = {0: "", 0x40: "NC1HWC2", 0x41: "weights"}
PLACEMENTS = {0: "CPU", 1: "GPU", 2: "NPU"}


@frozen
class Quantization:
    """``real = (stored - zero_point) * scale``; one element for the whole tensor, or one per channel."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()


@frozen
class RknnTensor:
    """A tensor of the compiled graph.

    Attributes:
        name: As the compiler calls it; ONNX names survive for what was not fused away.
        dtype: As stored on the device.
        dims: In ONNX's order.
        kind: input, output, internal, constant, commands or tasks.
        native_layout: ``NC1HWC2``, ``weights``, or empty for the plain order.
        size: Bytes on the device.
        quantization: Of integer tensors that stand for real numbers.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    kind: str
    native_layout: str
    size: int
    quantization: Quantization | None


@frozen
class RknnNode:
    """An operation: what it is and where it runs (``NPU``, ``CPU`` or ``GPU``), with its tensors' names."""

    op_type: str
    name: str
    placement: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@frozen
class RknnSubgraph:
    """The compiled graph for one set of input shapes; ``inputs`` and ``outputs`` are tensor names."""

    tensors: tuple[RknnTensor, ...]
    nodes: tuple[RknnNode, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@frozen
class RknnIO:
    """An input or output of the whole file.

    Attributes:
        name: ONNX name.
        dims: Of the largest shape set; rank 0 is ``(1,)``.
        dtype: The ONNX dtype as the toolkit understood it (float16 and float64 appear as float32); empty if unknown.
        device_dtype: As the NPU keeps it; empty if unknown.
        layout: What the runtime wants or gives: ``NHWC``, ``NCHW`` or ``UNDEFINED``; empty if unknown.
        index: Position in the ONNX model's own list (the toolkit drops unused inputs and constant outputs), or None.
        quantization: Of an integer device dtype.
        shapes: Every shape it can have, in a file with several.
    """

    name: str
    dims: tuple[int, ...]
    dtype: str = ""
    device_dtype: str = ""
    layout: str = ""
    index: int | None = None
    quantization: Quantization | None = None
    shapes: tuple[tuple[int, ...], ...] = ()


@frozen
class RknnFile:
    """All that a ``.rknn`` file says about itself.

    Attributes:
        format_version: 6, or 0x1004 for the mini format.
        size: Bytes of the file.
        target: The SoC, such as ``rk3588``.
        family: The compiler's name of the NPU generation, such as ``RKNPU v2``.
        framework: What the model was, such as ``ONNX``.
        toolkit_version: Such as ``2.5.0``.
        compiler: Version and build of the compiler.
        custom_string: What the maker put in.
        dynamic: Whether it holds several sets of input shapes.
        inputs: In the file's order, which is the order the runtime wants.
        outputs: In the file's order.
        subgraphs: One per set of shapes; empty where the graph cannot be read.
        problem: Why the graph could not be read; empty when it could.
    """

    format_version: int
    size: int
    target: str
    family: str
    framework: str
    toolkit_version: str
    compiler: str
    custom_string: str
    dynamic: bool
    inputs: tuple[RknnIO, ...]
    outputs: tuple[RknnIO, ...]
    subgraphs: tuple[RknnSubgraph, ...] = field(repr=False)
    problem: str = ""

    @property
    def nodes(self) -> tuple[RknnNode, ...]:
        """The nodes of the first (largest) subgraph."""
        return self.subgraphs[0].nodes if self.subgraphs else ()

    @property
    def tensors(self) -> Mapping[str, RknnTensor]:
        """The tensors of the first (largest) subgraph by name."""
        return {tensor.name: tensor for tensor in self.subgraphs[0].tensors} if self.subgraphs else {}


def _mapping(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise Damaged("a description that is no mapping")
    return value


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Damaged("a description that is no list")
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dims(value: Any) -> tuple[int, ...]:
    dims = _items(list(value) if isinstance(value, tuple) else value)
    if len(dims) > MOST_DIMS or not all(type(dim) is int and 0 <= dim < 1 << 31 for dim in dims):
        raise Damaged(f"impossible dimensions {str(dims)[:80]}")
    return tuple(dims)


@frozen
class _Trailer:
    target: str
    version: str
    inputs: tuple[RknnIO, ...]
    outputs: tuple[RknnIO, ...]


def _trailer(text: str) -> _Trailer:
    """Understand the JSON behind the FlatBuffer."""
    root = _mapping(parse(text))
    tensors = {}
    for entry in map(_mapping, _items(root.get("norm_tensor"))):
        quantized = _text(_mapping(entry.get("dtype", {})).get("qnt_type"))
        tensors[str(entry.get("tensor_id"))] = RknnIO(
            name=_text(entry.get("url")), dims=_dims(entry.get("size")), device_dtype=quantized
        )
    sides: dict[str, list[tuple[int, RknnIO]]] = {"input": [], "output": []}
    for edge in map(_mapping, _items(root.get("graph"))):
        side, position = _text(edge.get("left")), edge.get("left_tensor_id")
        tensor = tensors.get(str(edge.get("right_tensor_id")))
        if side not in sides or type(position) is not int or tensor is None:
            raise Damaged("an input or output that leads nowhere")
        sides[side].append((position, tensor))
    inputs, outputs = (tuple(tensor for _, tensor in sorted(side, key=lambda pair: pair[0])) for side in sides.values())
    targets = root.get("target_platform")
    target = _text(targets[0]) if isinstance(targets, list) and targets else _text(targets)
    return _Trailer(target, _text(root.get("version")), inputs, outputs)


def _tensor(table: Table) -> RknnTensor:
    scale, layout = table.floats(10), table.number(1, "B")
    quantization = None
    dtype = DTYPES.get(table.number(0, "B"), f"type {table.number(0, 'B')}")
    if scale and dtype not in ("float16", "float32"):
        quantization = Quantization(scale, table.integers(11), table.floats(8), table.floats(9))
    return RknnTensor(
        name=table.text(5),
        dtype=dtype,
        dims=_dims(table.integers(4)),
        kind=KINDS.get(table.number(2, "B"), "other"),
        native_layout=NATIVE_LAYOUTS.get(layout, str(layout)),
        size=table.number(12, "I"),
        quantization=quantization,
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
            placement=PLACEMENTS.get(node.number(3, "B"), "other"),
            inputs=names(node.integers(4)),
            outputs=names(node.integers(5)),
        )
        for node in table.tables(1)
    )
    return RknnSubgraph(tensors, nodes, names(table.integers(2)), names(table.integers(3)))


def _sides(root: Table, graph: RknnSubgraph) -> tuple[tuple[RknnIO, ...], tuple[RknnIO, ...]]:
    """Inputs and outputs, put together from the graph and the three texts that describe them."""
    notes = _mapping(parse(root.text(3) or "{}"))
    attributes, shapes = _mapping(notes.get("attrs", {})), _mapping(notes.get("dynamic_shapes", {}))
    tensors = {tensor.name: tensor for tensor in graph.tensors}

    def side(names: tuple[str, ...], slot: int) -> tuple[RknnIO, ...]:
        devices = _mapping(parse(root.text(slot) or "{}"))
        found = []
        for name in names:
            tensor, device = tensors[name], _mapping(devices.get(name, {}))
            attribute = _mapping(attributes.get(name, {}))
            index = attribute.get("idx")
            found.append(
                RknnIO(
                    name=name,
                    dims=tensor.dims,
                    dtype=_text(attribute.get("dtype")),
                    device_dtype=_text(device.get("dtype")) or tensor.dtype,
                    layout=_text(device.get("layout")),
                    index=index if type(index) is int else None,
                    quantization=tensor.quantization,
                    shapes=tuple(map(_dims, _items(shapes.get(name, [])))),
                )
            )
        return tuple(found)

    return side(graph.inputs, 12), side(graph.outputs, 13)


def _graph_part(data: memoryview, trailer: _Trailer | None, common: dict[str, Any]) -> RknnFile:
    """Understand the FlatBuffer.

    Raises:
        ValueError: Something in it cannot be right.
    """
    if data[4:8] != MAGIC[:4]:
        raise Damaged("its graph is not in the form this reader knows (the small SoCs have another one)")
    root = FlatBuffer(data).root()
    subgraphs = tuple(map(_subgraph, root.tables(2)))
    if not subgraphs:
        raise Damaged("no graph in it")
    inputs, outputs = _sides(root, subgraphs[0])
    if trailer is not None:
        for mine, theirs in ((inputs, trailer.inputs), (outputs, trailer.outputs)):
            if [value.name for value in mine] != [value.name for value in theirs]:
                raise Damaged("its two lists of inputs and outputs contradict each other")
    version = _VERSION.match(root.text(7))
    return RknnFile(
        target=root.text(8) or (trailer.target if trailer else ""),
        family=root.text(1),
        framework=root.text(9),
        toolkit_version=version["toolkit"] if version else root.text(7) or (trailer.version if trailer else ""),
        compiler=version["compiler"] if version else "",
        custom_string=root.text(11),
        dynamic=root.text(16) == "dynamic_shape",
        inputs=inputs,
        outputs=outputs,
        subgraphs=subgraphs,
        **common,
    )


def is_rknn(data: bytes) -> bool:
    """Whether ``data`` (its first 8 bytes are enough) begins like a ``.rknn`` file."""
    return data[: len(MAGIC)] == MAGIC


def _mapped(path: Path) -> bytes | mmap.mmap:
    """A file's content without a copy of its weights in memory."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def read(source: str | os.PathLike[str] | bytes) -> RknnFile:
    """Read a ``.rknn`` file.

    Args:
        source: A path, or the file's bytes.

    Raises:
        CompiledModelError: It is not a ``.rknn`` file, or so damaged that not even its inputs and outputs are known.
        OSError: The file cannot be opened.
    """
    data = memoryview(source if isinstance(source, bytes) else _mapped(Path(source)))
    name = "the bytes given" if isinstance(source, bytes) else os.fspath(source)
    if not is_rknn(bytes(data[:8])):
        raise CompiledModelError(f"{name}: not a .rknn file (it begins with {bytes(data[:8])!r})")
    if len(data) < HEADER + 8:
        raise CompiledModelError(f"{name}: cut off after {len(data)} bytes")
    format_version, length = struct.unpack_from("<QQ", data, 8)
    end = min(HEADER + length, len(data))
    common: dict[str, Any] = {"format_version": format_version, "size": len(data)}
    trailer, problems = None, []
    try:
        if end + 8 > len(data):
            raise Damaged(f"cut off: {HEADER + length + 8 - len(data)} bytes or more are missing")
        (text_length,) = struct.unpack_from("<Q", data, end)
        if end + 8 + text_length > len(data):
            raise Damaged("cut off within its description")
        trailer = _trailer(bytes(data[end + 8 : end + 8 + text_length]).decode("utf-8"))
    except ValueError as error:
        problems.append(str(error))
    try:
        return _graph_part(data[HEADER:end], trailer, common)
    except ValueError as error:
        problems.append(str(error))
    if trailer is None:
        raise CompiledModelError(f"{name}: damaged: {'; '.join(problems)}")
    return RknnFile(
        target=trailer.target,
        family="",
        framework="",
        toolkit_version=trailer.version,
        compiler="",
        custom_string="",
        dynamic=False,
        inputs=trailer.inputs,
        outputs=trailer.outputs,
        subgraphs=(),
        problem="; ".join(problems),
        **common,
    )
