"""Names and inputs of a segment in the form the toolkit takes."""

from __future__ import annotations

import hashlib

import onnx
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.passes.base import Context

__all__ = ["name_outputs", "scalar_inputs", "shorten"]

_LONGEST = 120
"""Characters of a name. Measured: inputs and outputs of 125 compile, of 130 they do not."""

_ALL_OUTPUTS = {"LSTM": 3, "GRU": 2, "RNN": 2}


def scalar_inputs(model: ir.Model, ctx: Context) -> None:
    """Let inputs of rank 0 come as [1], in place: the simulator fails on rank 0, and the file says [1] anyway."""
    graph = model.graph
    for value in graph.inputs:
        if value.shape is None or len(value.shape):
            continue
        users = value.uses()
        shape = onnx_graph.initializer(ctx.name("scalar"), ir.tensor([], dtype=ir.DataType.INT64))
        graph.register_initializer(shape)
        node = ir.node("Reshape", [value, shape], name=ctx.name(f"{value.name}/Reshape"))
        inner = node.outputs[0]
        inner.name = node.name
        inner.type, inner.shape = value.type, ir.Shape(())
        for user, index in users:
            user.replace_input_with(index, inner)
        value.shape = ir.Shape((1,))
        graph.insert_before(graph[0], node)


def shorten(model: ir.Model) -> dict[str, str]:
    """Shorten long names, in place.

    Returns:
        New name -> old, for graph inputs and outputs.
    """
    graph = model.graph
    border = {value.name or "" for value in (*graph.inputs, *graph.outputs)}
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    names: dict[str, str] = {}
    for value in values:
        name = value.name or ""
        short = _short(name)
        if short != name:
            value.name = short
            if name in border:
                names[short] = name
    for node in graph:
        node.name = _short(node.name or "")
    return names


def name_outputs(proto: onnx.ModelProto) -> None:
    """Name every output of recurrent ops, in place: a missing first one makes the compiler give up."""
    names = onnx_graph.Names(name for node in proto.graph.node for name in node.output)
    for node in proto.graph.node:
        wanted = _ALL_OUTPUTS.get(node.op_type, 0) if not node.domain else 0
        if not wanted:
            continue
        node.output.extend([""] * (wanted - len(node.output)))
        for index, name in enumerate(node.output):
            if not name:
                node.output[index] = names.new(_short(f"{node.name}_unused_{index}"))


def _short(name: str) -> str:
    """``name``, shortened to what the toolkit takes; different names stay different."""
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: _LONGEST - 17]}_{digest}"
