"""The tape that op rewrites write their replacement nodes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import take_over

__all__ = ["PART_OF", "Tape"]

PART_OF = "ort_rknn.part_of"
"""Key in the metadata of nodes that came in the place of another: its op and its name. It is not written to files."""


class Names(Protocol):
    """Source of new names."""

    def name(self, base: str) -> str:
        """A new name like ``base``."""


class Tape:
    """Collects the nodes that replace one node; each new value gets its type and shape at once.

    Attributes:
        opset: Version of the standard's ops that may be used.
    """

    def __init__(self, model: ir.Model, names: Names, opset: int, node: ir.Node) -> None:
        self.opset = opset
        self._model = model
        self._names = names
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
        stem = self._names.name(f"{self._base}/{op_type}")
        node = ir.node(
            op_type,
            inputs,
            {name: value for name, value in attributes.items() if value is not None},
            num_outputs=outputs,
            name=stem,
        )
        for index, value in enumerate(node.outputs):
            value.name = stem if outputs == 1 else self._names.name(f"{stem}:{index}")
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
        value = onnx_graph.initializer(self._names.name(f"{self._base}/const"), tensor)
        self._constants.append(value)
        # Registered at once, for inference of the next op reads it.
        self._model.graph.register_initializer(value)
        return value

    def like(self, value: ir.Value, number: float) -> ir.Value:
        """A scalar constant of the element type of ``value``."""
        return self.const(number, value.dtype)

    def reduce(self, op_type: str, x: ir.Value, axes: Sequence[int] | None, *, keepdims: bool) -> Any:
        """Write a reduction; whether its axes are an attribute or an input depends on op and opset.

        Args:
            op_type: ``ReduceSum``, ``ReduceMean`` ...
            x: What is reduced.
            axes: Over which axes; all when ``None``.
            keepdims: Whether they stay, with size 1.
        """
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
        """Write a ``Slice`` along one axis (``step`` needs opset 10)."""
        if self.opset < 10:
            return self.op("Slice", x, starts=[start], ends=[end], axes=[axis])
        return self.op("Slice", x, *(self.const([number]) for number in (start, end, axis, step)))

    def commit(self, outputs: Sequence[ir.Value | None]) -> None:
        """Put the nodes in the place of the old one, whose outputs keep their names."""
        graph, old = self._model.graph, self._node
        graph.insert_before(old, self._new)
        for node in self._new:
            node.meta[PART_OF] = (old.op_type, self._base)
        ours = {value for node in self._new for value in node.outputs}
        given: set[ir.Value] = set()
        for was, new in zip(old.outputs, outputs, strict=True):
            if new is None:
                continue
            needs_own = was.is_graph_output()
            if needs_own and (new not in ours or new in given):
                # A graph output needs a node of its own; constants, inputs and values already given are not ours.
                node = ir.node("Identity", [new], name=self._names.name(f"{self._base}/Identity"))
                graph.insert_before(old, node)
                new = node.outputs[0]
            given.add(new)
            if new in ours or needs_own:
                take_over(was, new)
            was.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(old, safe=True)

    def insert(self) -> None:
        """Put the nodes before the old one, which stays."""
        self._model.graph.insert_before(self._node, self._new)

    def discard(self) -> None:
        """Forget everything written."""
        for value in self._constants:
            assert value.name is not None
            self._model.graph.initializers.pop(value.name)
        for node in reversed(self._new):
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)


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
        tensor = onnx_graph.constant(value)
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
