"""``ort-rknn info FILE``: what is in a bare ``.rknn`` file, a compiled model or an ONNX model."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ort_rknn_converters import rknn_file
from ort_rknn_converters.errors import CompiledModelError, ConvertError
from ort_rknn_converters.rknn_file import Quantization, RknnFile, RknnIO

__all__ = ["command"]

BAD_FILE = 2  # exit code
IO_COLUMNS = ("name", "shape", "ONNX dtype", "device dtype", "layout", "quantization")
NODE_COLUMNS = ("op", "runs on", "name", "reads", "gives")
TENSOR_COLUMNS = ("tensor", "kind", "shape", "dtype", "stored as", "bytes", "quantization")


@click.command("info")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--tensors", is_flag=True, help="Also list every tensor of a .rknn file with its scale.")
def command(file: Path, as_json: bool, tensors: bool) -> None:
    """Show what FILE holds: inputs, outputs, layouts, quantization, target, toolkit and where each node runs."""
    console = Console()
    try:
        with file.open("rb") as stream:
            bare = rknn_file.is_rknn(stream.read(8))
        data = _rknn(file, console, as_json, tensors) if bare else _onnx(file, console, as_json)
    except (ConvertError, OSError) as error:
        reason = f"{file}: {error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)
        click.echo(f"Error: {reason}", err=True)
        sys.exit(BAD_FILE)
    if as_json:
        click.echo(json.dumps(_finite(data), indent=2, ensure_ascii=False))


def _finite(data: Any) -> Any:
    """The same data with None for NaN and infinity, which JSON has no words for."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _facts(console: Console, rows: Iterable[tuple[str, object]]) -> None:
    table = Table(show_header=False, box=None)
    for name, value in rows:
        if value not in ("", None):
            table.add_row(name, escape(str(value)))
    console.print(table)


def _table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)


def _shape(dims: Iterable[object]) -> str:
    return "x".join("?" if dim is None else str(dim) for dim in dims) or "scalar"


def _scales(quantization: Quantization | None) -> str:
    if quantization is None:
        return ""
    pairs = list(zip(quantization.scale, quantization.zero_point or (0,) * len(quantization.scale), strict=False))
    text = ", ".join(f"{scale:.6g} zero {zero}" for scale, zero in pairs[:2])
    return text + (f", ... ({len(pairs)} channels)" if len(pairs) > 2 else "")


def _io_row(value: RknnIO) -> tuple[object, ...]:
    shapes = " | ".join(map(_shape, value.shapes)) if value.shapes else _shape(value.dims)
    return value.name, shapes, value.dtype or "?", value.device_dtype or "?", value.layout, _scales(value.quantization)


def _rknn(path: Path, console: Console, as_json: bool, tensors: bool) -> dict[str, Any]:
    """Show a bare ``.rknn`` file; returns it as plain data."""
    found = rknn_file.read(path)
    if as_json:
        return {"kind": "rknn", **asdict(found)}
    console.print(f"[bold]{escape(str(path))}[/bold]: compiled code for one NPU (.rknn)", soft_wrap=True)
    _facts(console, _rknn_facts(found))
    _table(console, "Inputs", IO_COLUMNS, map(_io_row, found.inputs))
    _table(console, "Outputs", IO_COLUMNS, map(_io_row, found.outputs))
    for number, graph in enumerate(found.subgraphs):
        suffix = f" for shapes {number + 1} of {len(found.subgraphs)}" if len(found.subgraphs) > 1 else ""
        rows = ((n.op_type, n.placement, n.name, ", ".join(n.inputs), ", ".join(n.outputs)) for n in graph.nodes)
        _table(console, f"Nodes{suffix}", NODE_COLUMNS, rows)
        if tensors:
            listed = (
                (t.name, t.kind, _shape(t.dims), t.dtype, t.native_layout, t.size, _scales(t.quantization))
                for t in graph.tensors
            )
            _table(console, f"Tensors{suffix}", TENSOR_COLUMNS, listed)
    return {}


def _rknn_facts(found: RknnFile) -> list[tuple[str, object]]:
    work = [node for node in found.nodes if node.op_type not in ("InputOperator", "OutputOperator")]
    places = Counter(node.placement for node in work)
    return [
        ("target", f"{found.target} ({found.family})" if found.family else found.target),
        ("toolkit", found.toolkit_version),
        ("compiler", found.compiler),
        ("made from", found.framework),
        ("size", f"{found.size:,} bytes, format {found.format_version:#x}"),
        ("shapes", f"{len(found.subgraphs)} sets" if found.dynamic else "static" if found.subgraphs else ""),
        ("nodes", ", ".join(f"{count} on the {place}" for place, count in places.most_common())),
        ("custom string", found.custom_string),
        ("not read", found.problem),
    ]


def _onnx(path: Path, console: Console, as_json: bool) -> dict[str, Any]:
    """Show a compiled or a plain ONNX model; returns it as plain data."""
    from ort_rknn_converters.compiled import CompiledModel, is_compiled

    return (
        _compiled(CompiledModel.load(path), path, console, as_json)
        if is_compiled(path)
        else _plain(path, console, as_json)
    )


def _code(data: bytes) -> dict[str, Any]:
    try:
        return asdict(rknn_file.read(data))
    except CompiledModelError as error:
        return {"problem": str(error)}


def _compiled(model: Any, path: Path, console: Console, as_json: bool) -> dict[str, Any]:
    codes = [
        {
            "segment": step.name,
            "target": target,
            "precision": step.precision,
            "size": code.size,
            "onnx": step.onnx is not None,
            "inputs": [asdict(value) for value in step.inputs],
            "outputs": [asdict(value) for value in step.outputs],
            "rknn": _code(code.read()),
        }
        for step in model.npu_steps
        for target, code in step.code.items()
    ]
    if as_json:
        return {
            "kind": "compiled",
            "targets": list(model.targets),
            "toolkit_version": model.toolkit_version,
            "passes": list(model.passes),
            "plan": model.plan.to_dict(),
            "code": codes,
        }
    console.print(f"[bold]{escape(str(path))}[/bold]: compiled model", soft_wrap=True)
    _facts(
        console,
        [
            ("targets", ", ".join(model.targets)),
            ("toolkit", model.toolkit_version),
            ("size", f"{path.stat().st_size:,} bytes"),
        ],
    )
    rows = (
        (
            code["segment"],
            code["target"],
            code["precision"],
            f"{code['size']:,}",
            "yes" if code["onnx"] else "no (stripped)",
            code["rknn"]["problem"] or "read",
        )
        for code in codes
    )
    _table(console, "Compiled code", ("segment", "target", "precision", "bytes", "ONNX inside", "code"), rows)
    console.print(escape(str(model.plan)), soft_wrap=True)
    return {}


def _plain(path: Path, console: Console, as_json: bool) -> dict[str, Any]:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ConvertError(f"{path}: neither a .rknn file nor an ONNX model") from error
    if not model.HasField("graph"):
        raise ConvertError(f"{path}: neither a .rknn file nor an ONNX model")
    constants = {tensor.name for tensor in model.graph.initializer}
    data: dict[str, Any] = {
        "kind": "onnx",
        "ir_version": model.ir_version,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "opsets": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "inputs": [_value(value) for value in model.graph.input if value.name not in constants],
        "outputs": [_value(value) for value in model.graph.output],
        "ops": dict(Counter(node.op_type for node in model.graph.node).most_common()),
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
    }
    if as_json:
        return data
    console.print(f"[bold]{escape(str(path))}[/bold]: ONNX model, not compiled", soft_wrap=True)
    opsets = ", ".join(f"{domain} {version}" for domain, version in data["opsets"].items())
    _facts(console, [("producer", data["producer"]), ("IR version", data["ir_version"]), ("opsets", opsets)])
    for title in ("inputs", "outputs"):
        rows = (
            (value["name"], _shape(value["shape"]) if value["shape"] is not None else "?", value["dtype"])
            for value in data[title]
        )
        _table(console, title.capitalize(), ("name", "shape", "dtype"), rows)
    _table(console, "Nodes", ("op", "count"), data["ops"].items())
    console.print("See where they would run with: ort-rknn convert --plan-only", style="dim")
    return data


def _value(value: Any) -> dict[str, Any]:
    import onnx

    tensor = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim]
    dtype = (
        onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type else value.type.WhichOneof("value")
    )
    return {"name": value.name, "dtype": dtype or "?", "shape": dims if tensor.HasField("shape") else None}
