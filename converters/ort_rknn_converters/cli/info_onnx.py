"""Shows a plain ONNX model for ``ort-rknn info``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from rich.console import Console

from ort_rknn_converters.cli.tables import draw_facts, draw_table, shape
from ort_rknn_converters.errors import ConvertError
from ort_rknn_converters.util.foreign_text import in_markup

__all__ = ["draw_values", "plain", "value"]


def plain(path: Path, console: Console, as_json: bool) -> dict[str, Any]:
    """Show a model that is not compiled; returns it as plain data for JSON.

    Raises:
        ConvertError: It is no ONNX model.
    """
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
        "inputs": [value(one) for one in model.graph.input if one.name not in constants],
        "outputs": [value(one) for one in model.graph.output],
        "ops": dict(Counter(node.op_type for node in model.graph.node).most_common()),
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
    }
    if as_json:
        return data
    console.print(f"[bold]{in_markup(str(path))}[/bold]: ONNX model, not compiled", soft_wrap=True)
    opsets = ", ".join(f"{domain} {version}" for domain, version in data["opsets"].items())
    draw_facts(console, [("producer", data["producer"]), ("IR version", data["ir_version"]), ("opsets", opsets)])
    draw_values(console, data["inputs"], data["outputs"])
    draw_table(console, "Nodes", ("op", "count"), data["ops"].items())
    console.print("\nSee where they would run with: ort-rknn convert --plan-only", style="dim")
    return data


def draw_values(console: Console, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
    """A model's inputs and outputs, as :func:`value` describes them."""
    for title, values in (("Inputs", inputs), ("Outputs", outputs)):
        rows = ((one["name"], "?" if one["shape"] is None else shape(one["shape"]), one["dtype"]) for one in values)
        draw_table(console, title, ("name", "shape", "dtype"), rows)


def value(info: onnx.ValueInfoProto) -> dict[str, Any]:
    """Name, dtype and shape of an input or output; the shape is ``None`` where not even the rank is known."""
    tensor = info.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim]
    dtype = info.type.WhichOneof("value")
    if tensor.elem_type:
        known = onnx.TensorProto.DataType.values()
        named = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type in known else ""
        dtype = named or f"type {tensor.elem_type}"
    return {"name": info.name, "dtype": dtype or "?", "shape": dims if tensor.HasField("shape") else None}
