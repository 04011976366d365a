"""Shows a compiled model for ``ort-rknn info``: every form of it, with its plan and its code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console

from ort_rknn_converters.cli.info_onnx import draw_values, value
from ort_rknn_converters.cli.info_rknn import IO_COLUMNS, io_rows, node_tables, places
from ort_rknn_converters.cli.tables import draw_facts, draw_table, shape
from ort_rknn_converters.compiled.bundle import Bundle, Variant
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.onnx_file.protobuf_wire import is_bundle
from ort_rknn_converters.partition.plan import render_plan
from ort_rknn_converters.rknn_format import reader
from ort_rknn_converters.rknn_format.values import RknnFile
from ort_rknn_converters.util.foreign_text import in_markup

__all__ = ["compiled"]

_SHOWN = 60  # characters of a metadata value
CODE_COLUMNS = ("segment", "target", "precision", "bytes", "ONNX inside", "layers", "custom string", "not read")


def compiled(path: Path, console: Console, as_json: bool, nodes: bool, tensors: bool) -> dict[str, Any]:
    """Show a compiled model; returns it as plain data for JSON.

    Raises:
        CompiledModelError: It is damaged.
    """
    forms = Bundle.load(path).variants if is_bundle(path) else (_only_form(path),)
    models = [form.load() for form in forms]
    stub = onnx.ModelProto.FromString(models[0].stub.read())
    data: dict[str, Any] = {
        "kind": "compiled",
        "targets": list(dict.fromkeys(target for form in forms for target in form.targets)),
        "inputs": [value(one) for one in stub.graph.input],
        "outputs": [value(one) for one in stub.graph.output],
        "metadata": {entry.key: entry.value for entry in stub.metadata_props},
        "plugin": plugin_fitness(forms, models[0].plan.values),
    }
    if as_json:
        return data | {"forms": [_plain_data(form, model) for form, model in zip(forms, models, strict=True)]}
    count = f", {len(forms)} forms" if len(forms) > 1 else ""
    console.print(f"[bold]{in_markup(str(path))}[/bold]: compiled model{count}", soft_wrap=True)
    facts = [("targets", ", ".join(data["targets"])), ("size", f"{path.stat().st_size:,} bytes")]
    facts.append(("plugin", data["plugin"]))
    facts += [(_shortened(key), _shortened(text)) for key, text in data["metadata"].items()]
    draw_facts(console, facts)
    draw_values(console, data["inputs"], data["outputs"])
    for number, (form, model) in enumerate(zip(forms, models, strict=True), 1):
        if len(forms) > 1:
            console.print(f"\n[bold]Form {number} of {len(forms)}[/bold]: {in_markup(_headline(form))}", soft_wrap=True)
        _draw(console, model, nodes=nodes, tensors=tensors)
    return {}


def plugin_fitness(forms: Sequence[Variant], values: Mapping[str, str]) -> str:
    """Whether onnxruntime's plugin runs the file: it sees the first form only, and compares no pinned values."""
    if len(forms) == 1:
        pinned = ", ".join(f"{name} is taken to be {text}" for name, text in values.items())
        return "fit for onnxruntime-ep-rknn" + (f", where {pinned} whatever is fed" if pinned else "")
    if any(form.values for form in forms):
        return "not fit for onnxruntime-ep-rknn: several pinned values in one file (convert one with --plugin for each)"
    if len({tuple(form.shapes.items()) for form in forms}) > 1:
        return "not fit for onnxruntime-ep-rknn: several shapes in one file (convert one with --plugin for each)"
    return f"fit for onnxruntime-ep-rknn on {', '.join(forms[0].targets)} only: the other SoCs have forms of their own"


def _shortened(text: str) -> str:
    line = " ".join(text[: 10 * _SHOWN].split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}... ({len(text):,} characters)"


def _only_form(path: Path) -> Variant:
    return Variant.of({}, CompiledModel.load(path))


def _headline(form: Variant) -> str:
    pinned = [f"{name}={shape(dims)}" for name, dims in form.shapes.items()]
    pinned += [f"{name}={text}" for name, text in form.values.items()]
    return ", ".join(filter(None, (", ".join(form.targets), " ".join(pinned))))


def _draw(console: Console, model: CompiledModel, *, nodes: bool, tensors: bool) -> None:
    console.print()
    draw_facts(console, [("toolkit", model.toolkit_version), *(("prepared", text) for text in model.passes)])
    console.print("\n" + in_markup(render_plan(model.plan, nodes=True)), soft_wrap=True)
    rows = []
    edges = []
    for step, target, size, found in _codes(model):
        facts = ["", "", found]
        if isinstance(found, RknnFile):
            facts = [places(found), found.custom_string, found.problem]
            edges += [(step.name, target, "in", *row) for row in io_rows(found.inputs)]
            edges += [(step.name, target, "out", *row) for row in io_rows(found.outputs)]
        inside = "yes" if step.onnx is not None else "no (stripped)"
        rows.append((step.name, target, step.precision, f"{size:,}", inside, *facts))
    draw_table(console, "Compiled code", CODE_COLUMNS, rows)
    draw_table(console, "What the device sees", ("segment", "target", "", *IO_COLUMNS), edges)
    for step, target, _, found in _codes(model) if nodes or tensors else ():
        if isinstance(found, RknnFile):
            console.print(f"\n[bold]{in_markup(step.name)}[/bold] for {in_markup(target)}")
            node_tables(console, found, tensors=tensors)


def _codes(model: CompiledModel) -> Iterator[tuple[Any, str, int, RknnFile | str]]:
    """Step, SoC, bytes and content of each compiled code, or why it cannot be read."""
    for step in model.npu_steps:
        for target, code in step.code.items():
            try:
                yield step, target, code.size, reader.read_rknn(code.read())
            except CompiledModelError as error:
                yield step, target, code.size, str(error)


def _plain_data(form: Variant, model: CompiledModel) -> dict[str, Any]:
    return {
        "shapes": {name: list(dims) for name, dims in form.shapes.items()},
        "values": {name: json.loads(text) for name, text in form.values.items()},
        "targets": list(form.targets),
        "toolkit_version": model.toolkit_version,
        "passes": list(model.passes),
        "plan": model.plan.to_dict(),
        "code": [
            {
                "segment": step.name,
                "target": target,
                "precision": step.precision,
                "size": size,
                "onnx": step.onnx is not None,
                "inputs": [asdict(one) for one in step.inputs],
                "outputs": [asdict(one) for one in step.outputs],
                "rknn": asdict(found) if isinstance(found, RknnFile) else {"problem": found},
            }
            for step, target, size, found in _codes(model)
        ],
    }
