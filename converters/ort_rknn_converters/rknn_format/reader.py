"""Reads ``.rknn`` files, anybody's: what goes in and out, for which SoC, made by what, and what runs where.

The format is the vendor's and undocumented; what is known of it was found by comparing many files of toolkit 2.3.2 and
2.5.0. A file is a header of 64 bytes, a FlatBuffer, and a JSON text. Where the FlatBuffer cannot be read (the mini
format of rv110x and rk2118 is another one) the JSON still tells names, order and dims. No bytes, however mangled, make
the reader do more than raise :class:`~ort_rknn_converters.errors.CompiledModelError`.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.rknn_format.flatbuffer import Damaged, FlatBuffer
from ort_rknn_converters.rknn_format.graph import DYNAMIC, IDENTIFIER, read_graph
from ort_rknn_converters.rknn_format.literals import as_list, as_mapping, as_sizes, as_text, parse_literal
from ort_rknn_converters.rknn_format.values import RknnFile, RknnIO
from ort_rknn_converters.util.frozen import frozen, replace
from ort_rknn_converters.util.own_files import open_regular

__all__ = ["is_dynamic", "is_rknn", "read_rknn"]

MAGIC = IDENTIFIER + bytes(4)
HEADER = 64


def is_rknn(data: bytes) -> bool:
    """Whether ``data`` (its first 8 bytes are enough) begins like a ``.rknn`` file."""
    return data[: len(MAGIC)] == MAGIC


def is_dynamic(source: str | os.PathLike[str] | bytes) -> bool:
    """Whether a file was compiled for sets of input shapes; ``False`` where it cannot be read.

    Args:
        source: A path, or the file's bytes.

    Raises:
        OSError: The file cannot be opened.
    """
    try:
        data = memoryview(source if isinstance(source, bytes) else _mapped(Path(source)))
        (length,) = struct.unpack_from("<Q", data, 16)
        return is_rknn(bytes(data[:8])) and FlatBuffer(data[HEADER : HEADER + length]).root().text(16) == DYNAMIC
    except (struct.error, ValueError):
        return False


def read_rknn(source: str | os.PathLike[str] | bytes) -> RknnFile:
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
    description, problems = None, []
    try:
        description = _describe(_behind(data, HEADER + length))
    except ValueError as error:
        problems.append(str(error))
    try:
        found = read_graph(data[HEADER : HEADER + length], format_version, len(data))
        return found if description is None else _confirmed(found, description)
    except ValueError as error:
        problems.append(str(error))
    if description is None:
        raise CompiledModelError(f"{name}: damaged: {'; '.join(problems)}")
    return RknnFile(
        format_version=format_version,
        size=len(data),
        target=description.target,
        family="",
        framework="",
        toolkit_version=description.version,
        compiler="",
        custom_string="",
        dynamic=False,
        inputs=description.inputs,
        outputs=description.outputs,
        subgraphs=(),
        problem="; ".join(problems),
    )


def _mapped(path: Path) -> bytes | mmap.mmap:
    """A file's content without a copy of its weights in memory."""
    with open_regular(path) as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else b""


def _behind(data: memoryview, end: int) -> str:
    """The JSON text behind the FlatBuffer, which ends at byte ``end``."""
    if end + 8 > len(data):
        raise Damaged(f"cut off: {end + 8 - len(data)} bytes or more are missing")
    (length,) = struct.unpack_from("<Q", data, end)
    if end + 8 + length > len(data):
        raise Damaged("cut off within its description")
    return bytes(data[end + 8 : end + 8 + length]).decode("utf-8")


@frozen
class _Description:
    """Description of the file in its JSON text."""

    target: str
    version: str
    inputs: tuple[RknnIO, ...]
    outputs: tuple[RknnIO, ...]


def _describe(text: str) -> _Description:
    root = as_mapping(parse_literal(text))
    tensors = {}
    for entry in map(as_mapping, as_list(root.get("norm_tensor"))):
        quantized = as_text(as_mapping(entry.get("dtype", {})).get("qnt_type"))
        tensors[str(entry.get("tensor_id"))] = RknnIO(
            name=as_text(entry.get("url")), dims=as_sizes(entry.get("size")), device_dtype=quantized
        )
    sides: dict[str, list[tuple[int, RknnIO]]] = {"input": [], "output": []}
    for edge in map(as_mapping, as_list(root.get("graph"))):
        side, position = as_text(edge.get("left")), edge.get("left_tensor_id")
        tensor = tensors.get(str(edge.get("right_tensor_id")))
        if side not in sides or type(position) is not int or tensor is None:
            raise Damaged("an input or output that leads nowhere")
        sides[side].append((position, tensor))
    inputs, outputs = (tuple(tensor for _, tensor in sorted(side, key=lambda pair: pair[0])) for side in sides.values())
    targets = root.get("target_platform")
    target = as_text(targets[0]) if isinstance(targets, list) and targets else as_text(targets)
    return _Description(target, as_text(root.get("version")), inputs, outputs)


def _confirmed(found: RknnFile, description: _Description) -> RknnFile:
    """Reads the graph, if the description agrees, which also tells what the graph leaves out."""
    for mine, theirs in ((found.inputs, description.inputs), (found.outputs, description.outputs)):
        if [value.name for value in mine] != [value.name for value in theirs]:
            raise Damaged("its two lists of inputs and outputs contradict each other")
    return replace(
        found,
        target=found.target or description.target,
        toolkit_version=found.toolkit_version or description.version,
    )
