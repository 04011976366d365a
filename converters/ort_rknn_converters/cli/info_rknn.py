"""Shows compiled code for ``ort-rknn info``, bare or inside a compiled model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from ort_rknn_converters.cli.tables import draw_facts, draw_table, scales, shape
from ort_rknn_converters.rknn_format import reader
from ort_rknn_converters.rknn_format.values import RknnFile, RknnIO
from ort_rknn_converters.util.foreign_text import in_markup

__all__ = ["IO_COLUMNS", "bare", "io_rows", "node_tables", "places"]

IO_COLUMNS = ("name", "shape", "ONNX dtype", "device dtype", "layout", "quantization")
NODE_COLUMNS = ("op", "runs on", "name", "reads", "gives")
TENSOR_COLUMNS = ("tensor", "kind", "shape", "dtype", "stored as", "bytes", "quantization")


def bare(path: Path, console: Console, as_json: bool, tensors: bool) -> dict[str, Any]:
    """Show a bare ``.rknn`` file; returns it as plain data for JSON.

    Raises:
        CompiledModelError: It cannot be read.
    """
    found = reader.read_rknn(path)
    if as_json:
        return {"kind": "rknn", **asdict(found)}
    console.print(f"[bold]{in_markup(str(path))}[/bold]: compiled code for one NPU (.rknn)", soft_wrap=True)
    draw_facts(console, _facts(found))
    draw_table(console, "Inputs", IO_COLUMNS, io_rows(found.inputs))
    draw_table(console, "Outputs", IO_COLUMNS, io_rows(found.outputs))
    node_tables(console, found, tensors=tensors)
    return {}


def io_rows(values: Iterable[RknnIO]) -> Iterable[tuple[object, ...]]:
    """Rows of inputs or outputs, for ``IO_COLUMNS``."""
    for one in values:
        shapes = " | ".join(map(shape, one.shapes)) if one.shapes else shape(one.dims)
        yield one.name, shapes, one.dtype or "?", one.device_dtype or "?", one.layout, scales(one.quantization)


def node_tables(console: Console, found: RknnFile, *, tensors: bool) -> None:
    """The layers of every set of shapes, with their places; their tensors if asked for."""
    for number, graph in enumerate(found.subgraphs):
        suffix = f" for shapes {number + 1} of {len(found.subgraphs)}" if len(found.subgraphs) > 1 else ""
        rows = ((n.op_type, n.placement, n.name, ", ".join(n.inputs), ", ".join(n.outputs)) for n in graph.nodes)
        draw_table(console, f"Nodes{suffix}", NODE_COLUMNS, rows)
        if tensors:
            listed = (
                (t.name, t.kind, shape(t.dims), t.dtype, t.native_layout, t.size, scales(t.quantization))
                for t in graph.tensors
            )
            draw_table(console, f"Tensors{suffix}", TENSOR_COLUMNS, listed)


def places(found: RknnFile) -> str:
    """Counts layers by the place they run at; the model's edges are no work."""
    work = [node for node in found.nodes if node.op_type not in ("InputOperator", "OutputOperator")]
    return ", ".join(f"{count} on the {place}" for place, count in Counter(n.placement for n in work).most_common())


def _facts(found: RknnFile) -> list[tuple[str, object]]:
    return [
        ("target", f"{found.target} ({found.family})" if found.family else found.target),
        ("toolkit", found.toolkit_version),
        ("compiler", found.compiler),
        ("made from", found.framework),
        ("size", f"{found.size:,} bytes, format {found.format_version:#x}"),
        ("shapes", f"{len(found.subgraphs)} sets" if found.dynamic else "static" if found.subgraphs else ""),
        ("nodes", places(found)),
        ("custom string", found.custom_string),
        ("not read", found.problem),
    ]
