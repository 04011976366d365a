"""Cutting some nodes out of a model as an ONNX model of its own: an NPU segment to compile, or a CPU step to run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph.dataflow import reads
from ort_rknn_converters.graph.ir_gaps import show_maps
from ort_rknn_converters.graph.nodes import bodies
from ort_rknn_converters.graph.onnx_graph import constant
from ort_rknn_converters.onnx_file.weights import LARGE, weights_as_inputs

__all__ = ["extract"]


def extract(
    model: ir.Model,
    nodes: Sequence[str],
    inputs: Sequence[str] | None,
    outputs: Sequence[str],
    *,
    apart: dict[str, NDArray[Any]] | None = None,
) -> onnx.ModelProto:
    """Build a standalone model of some nodes of the main graph.

    Args:
        model: The whole model. It is not changed.
        nodes: Names of the nodes, in topological order.
        inputs: Names of the graph inputs in the wanted order; ``None`` for the values the nodes read and do not make,
            in the order of first use. What ``If``, ``Loop`` and ``Scan`` bodies capture counts as read.
        outputs: Names of the values wanted; an initializer may be among them and comes out through an Identity.
        apart: Takes the large float32 weights, name -> array, uncopied; they become inputs behind the model's own.

    Returns:
        The model, with the opset imports of the whole and the initializers it uses. Initializers whose data lie in
        another file still point there, with absolute paths.

    Raises:
        ModelError: No such node or value, an input is missing, or the result is no valid ONNX.
    """
    by_name = {node.name: node for node in model.graph}
    unknown = [name for name in nodes if name not in by_name]
    if unknown:
        raise ModelError(f"no node is called {unknown[0]!r}")
    members = [by_name[name] for name in nodes]
    made = {value for node in members for value in node.outputs}
    read = dict.fromkeys(value for node in members for value in reads(node) if value not in made)

    wanted = _outputs(model, made, outputs)
    needed = [value for value in read if constant(value) is None]
    entering = needed if inputs is None else _inputs(needed, model, inputs)
    constants = dict.fromkeys(value for value in (*read, *wanted.values()) if constant(value) is not None)

    proto = onnx.ModelProto()
    proto.ir_version = max(model.ir_version, 4)  # 4: initializers need not be inputs
    proto.producer_name = "ort_rknn"
    _imports(proto, model)
    graph = proto.graph
    graph.name = model.graph.name or "part"
    graph.input.extend(_described(value) for value in entering)
    for name, value in wanted.items():
        info = _described(value)
        info.name = name
        graph.output.append(info)
    for value in constants:
        if apart is not None and value.name not in wanted and _is_large(value):
            assert value.const_value is not None
            name, array = value.name or "", value.const_value.numpy()
            apart[name] = array
            graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape))
        else:
            _write_tensor(graph.initializer.add(), value)
    graph.node.extend(ir.serde.serialize_node(node) for node in members)
    _give_constants(graph, wanted)
    graph.value_info.extend(
        _described(value)
        for node in members
        for value in node.outputs
        if value.name and value.name not in wanted and value.type is not None
    )
    _functions(proto, model, members)
    show_maps(proto)
    _check(proto)
    return proto


def _outputs(model: ir.Model, made: set[ir.Value], outputs: Sequence[str]) -> dict[str, ir.Value]:
    named = {value.name: value for value in made}
    wanted = {}
    for name in outputs:
        value = named.get(name) or model.graph.initializers.get(name)
        if value is None:
            raise ModelError(f"these nodes do not make {name!r}")
        wanted[name] = value
    return wanted


def _inputs(needed: Iterable[ir.Value], model: ir.Model, inputs: Sequence[str]) -> list[ir.Value]:
    known = {value.name: value for value in needed}
    missing = sorted(name or "" for name in known if name not in inputs)
    if missing:
        raise ModelError(f"these nodes also read {', '.join(missing)}")
    everything = {value.name: value for node in model.graph for value in node.outputs}
    everything |= {value.name: value for value in model.graph.inputs} | known
    unknown = [name for name in inputs if name not in everything]
    if unknown:
        raise ModelError(f"no value is called {unknown[0]!r}")
    return [everything[name] for name in inputs]


def _described(value: ir.Value) -> onnx.ValueInfoProto:
    return ir.serde.serialize_value(value)


def _is_large(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and tensor.dtype == ir.DataType.FLOAT and tensor.nbytes >= LARGE


def _write_tensor(proto: onnx.TensorProto, value: ir.Value) -> None:
    tensor = value.const_value
    assert tensor is not None
    ir.serde.serialize_tensor_into(proto, tensor)
    proto.name = value.name or ""


def _give_constants(graph: onnx.GraphProto, wanted: dict[str, ir.Value]) -> None:
    """Initializers among the outputs get another name, and an Identity that gives them under theirs."""
    for tensor in graph.initializer:
        if tensor.name in wanted:
            name, tensor.name = tensor.name, f"{tensor.name}/constant"
            node = onnx.helper.make_node("Identity", [tensor.name], [name], name=f"{name}/give")
            graph.node.insert(0, node)


def _imports(proto: onnx.ModelProto, model: ir.Model) -> None:
    for domain, version in model.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    if "" not in model.opset_imports:
        proto.opset_import.add(domain="", version=17)


def _functions(proto: onnx.ModelProto, model: ir.Model, members: Sequence[ir.Node]) -> None:
    if not model.functions:
        return
    graph_nodes = [inner for node in members for inner in _with_bodies(node)]
    waiting = [node.op_identifier() for node in graph_nodes]
    seen = set()
    while waiting:
        key = waiting.pop()
        function = model.functions.get(key)
        if function is None or key in seen:
            continue
        seen.add(key)
        proto.functions.append(ir.serde.serialize_function(function))
        waiting += [inner.op_identifier() for inner in function.all_nodes()]


def _with_bodies(node: ir.Node) -> list[ir.Node]:
    return [node, *(inner for body in bodies(node) for inner in ir.traversal.RecursiveGraphIterator(body))]


_NOT_THE_STANDARDS = "No Op registered for"
"""What the checker says of ops that onnxruntime adds to the standard's own domain."""


def _check(proto: onnx.ModelProto) -> None:
    external = any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer)
    # The checker insists on the rank of what crosses the edge; onnxruntime does not, and not every rank is known.
    unknown = any(
        value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
        for value in (*proto.graph.input, *proto.graph.output)
    )
    if external or unknown:
        return
    try:
        onnx.checker.check_model(weights_as_inputs(proto)[0])  # it would copy large weights twice, and not read them
    except onnx.checker.ValidationError as error:
        if _NOT_THE_STANDARDS in str(error):
            return
        raise ModelError(f"the part cut out is no valid ONNX: {error}") from error
