"""Turns ``Constant`` nodes of every form into initializers, in the graph and in the bodies inside it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.passes.base import Context, Pass

__all__ = ["Constants", "constant_tensor"]


class Constants(Pass):
    """A ``Constant`` becomes an initializer of the same name, unless a graph output is made by it.

    Such an output keeps its node; the other users of its value get an initializer of their own.
    """

    name = "constants"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Sparse constants are written out in full."""
        count = 0
        for node in onnx_graph.walk(model.graph):
            if node.op_type != "Constant" or node.domain or node.graph is None:
                continue
            was = node.outputs[0]
            if not was.uses() and was.is_graph_output():
                continue
            tensor = constant_tensor(node)
            if tensor is None or not isinstance(node.graph, ir.Graph):
                continue
            graph = node.graph
            name = ctx.name(was.name or "constant") if was.is_graph_output() else was.name or ctx.name("constant")
            value = onnx_graph.initializer(name, tensor)
            value.doc_string = was.doc_string
            for user, index in was.uses():
                user.replace_input_with(index, value)
            if not was.is_graph_output():
                graph.remove(node, safe=True)
            graph.register_initializer(value)
            count += 1
        return (f"{onnx_graph.many(count, 'Constant node')} made an initializer",) if count else ()


def constant_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    """Value of a ``Constant`` node, or ``None`` when it cannot be told (a reference, a broken node)."""
    if len(node.attributes) != 1:
        return None
    name, attr = next(iter(node.attributes.items()))
    if attr.is_ref():
        return None
    if name == "value":
        return attr.as_tensor() if attr.type == ir.AttributeType.TENSOR else None
    if name in ("value_float", "value_floats"):
        return ir.tensor(np.array(attr.value, dtype=np.float32))
    if name in ("value_int", "value_ints"):
        return ir.tensor(np.array(attr.value, dtype=np.int64))
    if name == "value_string":
        return ir.StringTensor([attr.value.encode()], shape=ir.Shape(()))
    if name == "value_strings":
        return ir.StringTensor([text.encode() for text in attr.value], shape=ir.Shape((len(attr.value),)))
    return None
