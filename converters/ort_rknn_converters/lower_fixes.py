"""Small things the toolkit stumbles over, put right in a segment; each was seen to matter."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import onnx_ir as ir

from ort_rknn_converters import graph as graphs
from ort_rknn_converters.passes.base import attribute

__all__ = ["fill_in", "long_name", "name_outputs", "scalar_inputs"]

_LONGEST = 200
"""Characters of a name the simulator surely takes (300 fail, measured)."""

_ALL_OUTPUTS = {"LSTM": 3, "GRU": 2, "RNN": 2}


def fill_in(model: ir.Model) -> None:
    """Say what ops leave unsaid, in place: ConstantOfShape's value, Split's parts, Pad's axes."""
    for node in list(model.graph):
        if node.domain:
            continue
        if node.op_type == "ConstantOfShape" and "value" not in node.attributes:
            node.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.zeros(1, np.float32)))
        elif node.op_type == "Split" and "num_outputs" in node.attributes:
            _say_parts(model, node)
        elif node.op_type == "Pad" and len(node.inputs) > 3 and node.inputs[3] is not None:
            _pad_all_axes(model, node)


def scalar_inputs(model: ir.Model) -> None:
    """Let inputs of rank 0 come as [1], in place: the simulator fails on rank 0, and the file says [1] anyway."""
    graph = model.graph
    taken = {value.name or "" for node in graph for value in node.outputs} | set(graph.initializers)
    for value in graph.inputs:
        if value.shape is None or len(value.shape):
            continue
        users = value.uses()
        shape = _constant(model, "scalar", np.zeros(0, np.int64), taken)
        node = ir.node("Reshape", [value, shape], name=graphs.unique(f"{value.name}_scalar", taken))
        inner = node.outputs[0]
        inner.name = node.name
        taken.add(node.name or "")
        inner.type, inner.shape = value.type, ir.Shape(())
        for user, index in users:
            user.replace_input_with(index, inner)
        value.shape = ir.Shape((1,))
        graph.insert_before(graph[0], node)


def name_outputs(proto: onnx.ModelProto) -> None:
    """Name every output of recurrent ops, in place: a missing first one makes the compiler give up."""
    taken = {name for node in proto.graph.node for name in node.output}
    for node in proto.graph.node:
        wanted = _ALL_OUTPUTS.get(node.op_type, 0) if node.domain in ("", "ai.onnx") else 0
        if not wanted:
            continue
        node.output.extend([""] * (wanted - len(node.output)))
        for index, name in enumerate(node.output):
            if not name:
                node.output[index] = graphs.unique(f"{node.name or node.op_type}_unused_{index}", taken)
                taken.add(node.output[index])


def long_name(name: str) -> str:
    """``name``, shortened to what the toolkit takes; different names stay different."""
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: _LONGEST - 17]}_{digest}"


def _say_parts(model: ir.Model, node: ir.Node) -> None:
    """``num_outputs`` -> sizes: the toolkit gets uneven parts wrong."""
    shape = graphs.static_shape(node.inputs[0])
    if shape is None:
        return
    count, size = int(attribute(node, "num_outputs")), shape[int(attribute(node, "axis", 0))]
    part = -(-size // count)
    sizes = [min(part, max(0, size - part * index)) for index in range(count)]
    node.attributes.pop("num_outputs")
    node.resize_inputs(2)
    taken = {value.name or "" for each in model.graph for value in each.outputs} | set(model.graph.initializers)
    node.replace_input_with(1, _constant(model, f"{node.name}_split", np.array(sizes, np.int64), taken))


def _pad_all_axes(model: ir.Model, node: ir.Node) -> None:
    """``axes`` -> pads of every axis: the toolkit reads the pads as if there were no axes."""
    pads, axes = (graphs.constant(value) for value in node.inputs[1:4:2])
    rank = None if node.inputs[0] is None or node.inputs[0].shape is None else len(node.inputs[0].shape)
    if pads is None or axes is None or rank is None:
        return
    whole = np.zeros((2, rank), np.int64)
    whole[:, axes.numpy() % rank] = pads.numpy().reshape(2, -1)
    taken = {value.name or "" for each in model.graph for value in each.outputs} | set(model.graph.initializers)
    node.replace_input_with(1, _constant(model, f"{node.name}_pads", whole.reshape(-1), taken))
    node.resize_inputs(3)


def _constant(model: ir.Model, base: str, array: np.ndarray, taken: set[str]) -> ir.Value:
    taken.update(value.name or "" for value in model.graph.inputs)
    value = graphs.initializer(graphs.unique(base, taken), ir.tensor(array))
    taken.add(value.name or "")
    model.graph.register_initializer(value)
    return value
