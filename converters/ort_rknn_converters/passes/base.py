"""What a pass is, and the tape that op rewrites write their replacement nodes on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir

from ort_rknn_converters import graph as graphs
from ort_rknn_converters.options import ConvertOptions

__all__ = [
    "FLOATS",
    "Context",
    "Pass",
    "Rewrite",
    "Tape",
    "attribute",
    "drop_unused",
    "kept_for_cpu",
    "let_go_of_bodies",
]

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})
"""Element types on which the float rewrites are right (integers would round or wrap differently)."""

_OLDEST = 7
"""Oldest opset rewritten: onnxruntime runs few ops older than that, and broadcasting was another."""


@dataclass
class Context:
    """What passes know besides the model.

    Attributes:
        options: The user's.
        opset: Version of the standard's ops in this model.
        names: Every value and node name taken, in the graph and in its bodies.
    """

    options: ConvertOptions
    opset: int
    names: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, model: ir.Model, options: ConvertOptions) -> Context:
        """The context of ``model``."""
        return cls(options, model.opset_imports.get("", 1), _taken(model.graph))

    def name(self, base: str) -> str:
        """A new name like ``base``."""
        name = graphs.unique(base, self.names)
        self.names.add(name)
        return name


class Pass(ABC):
    """One change of a whole model, in place.

    A pass leaves graph inputs and outputs (names, types, order), metadata and doc strings as they are.
    """

    name: ClassVar[str]

    @abstractmethod
    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Change ``model`` and say what was changed, in sentences; nothing changed, nothing said."""


class Rewrite(Pass):
    """A pass that replaces single ops of the main graph by others with the same answer.

    Bodies of ``If``, ``Loop`` and ``Scan`` are left alone: they run on the CPU, which has every op.
    """

    op_types: ClassVar[frozenset[str]]
    says: ClassVar[str]

    @abstractmethod
    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Write the replacement on ``tape`` and return the new values of the outputs, or ``None`` to leave the node.

        An output may only be given as ``None`` when nothing uses it.
        """

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Offer every node of ``op_types`` to :meth:`rewrite`."""
        if ctx.opset < _OLDEST:
            return ()
        done: Counter[str] = Counter()
        for node in list(model.graph):
            if node.domain or node.op_type not in self.op_types or kept_for_cpu(node, ctx):
                continue
            tape = Tape(model, ctx, node)
            outputs = self.rewrite(node, tape)
            if outputs is None:
                tape.discard()
            else:
                tape.commit(outputs)
                done[node.op_type] += 1
        return tuple(f"{count} {op_type} rewritten as {self.says}" for op_type, count in done.items())


class Tape:
    """Collects the nodes that replace one node; each new value gets its type and shape at once.

    Attributes:
        opset: Version of the standard's ops that may be used.
    """

    def __init__(self, model: ir.Model, ctx: Context, node: ir.Node) -> None:
        self.opset = ctx.opset
        self._model = model
        self._ctx = ctx
        self._node = node
        self._new: list[ir.Node] = []
        self._constants: list[ir.Value] = []
        self._base = next((value.name for value in node.outputs if value.name), None) or node.name or node.op_type

    def op(self, op_type: str, *inputs: ir.Value | None, outputs: int = 1, **attributes: Any) -> Any:
        """Write one standard op.

        Args:
            op_type: Its name.
            inputs: Its inputs; ``None`` for an optional one left out.
            outputs: How many outputs it has.
            attributes: Its attributes, as Python values or numpy arrays.

        Returns:
            The output value, or a tuple of them when ``outputs`` is not 1.
        """
        stem = self._ctx.name(f"{self._base}/{op_type}")
        node = ir.node(
            op_type,
            inputs,
            {name: value for name, value in attributes.items() if value is not None},
            num_outputs=outputs,
            name=stem,
        )
        for index, value in enumerate(node.outputs):
            value.name = stem if outputs == 1 else self._ctx.name(f"{stem}:{index}")
        _infer_outputs(node, self.opset)
        self._new.append(node)
        return node.outputs[0] if outputs == 1 else tuple(node.outputs)

    def const(self, values: Any, dtype: ir.DataType | None = None) -> ir.Value:
        """A new constant; Python floats become float32 and integers int64 unless ``dtype`` says otherwise."""
        array = np.asarray(values)
        if dtype is not None:
            array = array.astype(dtype.numpy())
        elif array.dtype == np.float64:
            array = array.astype(np.float32)
        tensor = ir.tensor(array, dtype=dtype)
        value = graphs.initializer(self._ctx.name(f"{self._base}/const"), tensor)
        self._constants.append(value)
        # Registered at once, for inference of the next op reads it.
        self._model.graph.register_initializer(value)
        return value

    def like(self, value: ir.Value, number: float) -> ir.Value:
        """A scalar constant of the element type of ``value``."""
        return self.const(number, value.dtype)

    def reduce(self, op_type: str, x: ir.Value, axes: Sequence[int] | None, *, keepdims: bool) -> Any:
        """Write a reduction; whether its axes are an attribute or an input depends on op and opset."""
        as_input = self.opset >= (13 if op_type == "ReduceSum" else 18)
        if axes is None:
            return self.op(op_type, x, keepdims=int(keepdims))
        if as_input:
            return self.op(op_type, x, self.const(np.asarray(axes, np.int64)), keepdims=int(keepdims))
        return self.op(op_type, x, axes=list(axes), keepdims=int(keepdims))

    def reshape(self, x: ir.Value, dims: Sequence[int]) -> Any:
        """Write a ``Reshape`` to fixed dimensions."""
        return self.op("Reshape", x, self.const(np.asarray(dims, np.int64)))

    def slice(self, x: ir.Value, start: int, end: int, *, axis: int, step: int = 1) -> Any:
        """Write a ``Slice`` along one axis."""
        return self.op("Slice", x, *(self.const([number]) for number in (start, end, axis, step)))

    def commit(self, outputs: Sequence[ir.Value | None]) -> None:
        """Put the nodes in the place of the old one, whose outputs keep their names."""
        graph, old = self._model.graph, self._node
        graph.insert_before(old, self._new)
        ours = {value for node in self._new for value in node.outputs}
        given: set[ir.Value] = set()
        for was, new in zip(old.outputs, outputs, strict=True):
            if new is None:
                continue
            needs_own = was.is_graph_output()
            if needs_own and (new not in ours or new in given):
                # A graph output needs a node of its own; constants, inputs and values already given are not ours.
                node = ir.node("Identity", [new], name=self._ctx.name(f"{self._base}/Identity"))
                graph.insert_before(old, node)
                new = node.outputs[0]
            given.add(new)
            if new in ours or needs_own:
                _take_over(was, new)
            was.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(old, safe=True)

    def discard(self) -> None:
        """Forget everything written."""
        for value in self._constants:
            assert value.name is not None
            self._model.graph.initializers.pop(value.name)
        for node in reversed(self._new):
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)


def kept_for_cpu(node: ir.Node, ctx: Context) -> bool:
    """Whether the user wants this node on the CPU, where the original op is the best one."""
    return node.op_type in ctx.options.cpu_ops or node.name in ctx.options.cpu_nodes


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """Value of an attribute as a Python value (strings decoded), or ``default``."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def drop_unused(model: ir.Model) -> int:
    """Remove nodes and constants of the main graph that nothing uses; returns how many nodes went."""
    removed = 0
    graph = model.graph
    for node in reversed(list(graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
            let_go_of_bodies(node)
            removed += 1
    for value in list(graph.initializers.values()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            assert value.name is not None
            graph.initializers.pop(value.name)
    return removed


def let_go_of_bodies(node: ir.Node) -> None:
    """Make the bodies of a removed node stop using values of the graph it was in."""
    for attr in node.attributes.values():
        bodies = (
            [attr.as_graph()]
            if attr.type == ir.AttributeType.GRAPH
            else list(attr.as_graphs())
            if attr.type == ir.AttributeType.GRAPHS
            else []
        )
        for body in bodies:
            for inner in graphs.walk(body):
                for index in range(len(inner.inputs)):
                    inner.replace_input_with(index, None)


def _take_over(was: ir.Value, new: ir.Value) -> None:
    """Give ``new`` the name, type and documentation of ``was``."""
    name = was.name
    was.name = None
    new.name = name
    new.type = was.type if was.type is not None else new.type
    if was.shape is not None and (new.shape is None or graphs.static_shape(new) is None):
        new.shape = was.shape
    new.doc_string = was.doc_string
    new.metadata_props.update(was.metadata_props)


def _taken(graph: ir.Graph) -> set[str]:
    names: set[str] = set()
    for inner in (graph, *graph.subgraphs()):
        names.update(value.name for value in inner.inputs if value.name)
        names.update(inner.initializers)
        for node in inner:
            names.update(value.name for value in node.outputs if value.name)
            if node.name:
                names.add(node.name)
    return names


def _infer_outputs(node: ir.Node, opset: int) -> None:
    """Type and shape of a new node's outputs, where its inputs are known well enough."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError as error:
        raise ValueError(f"{node.op_type} does not exist in opset {opset}") from error
    types: dict[str, onnx.TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for value in node.inputs:
        if value is None:
            continue
        if value.type is None:
            return
        info = ir.serde.serialize_value(value)
        types[info.name] = info.type
        tensor = graphs.constant(value)
        if tensor is not None and tensor.nbytes <= 1024:
            data[info.name] = ir.serde.serialize_tensor(tensor)
    try:
        found = onnx.shape_inference.infer_node_outputs(
            schema, ir.serde.serialize_node(node), types, data, opset_imports=[onnx.helper.make_opsetid("", opset)]
        )
    except (onnx.shape_inference.InferenceError, RuntimeError):
        return
    _set_types(node, found)


def _set_types(node: ir.Node, found: Mapping[str, onnx.TypeProto]) -> None:
    for value in node.outputs:
        proto = found.get(value.name or "")
        if proto is None:
            continue
        value.type = ir.serde.deserialize_type_proto_for_type(proto)
        value.shape = ir.serde.deserialize_type_proto_for_shape(proto)
