"""Removes ``Identity`` nodes; graph outputs keep their names."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import take_over
from ort_rknn_converters.passes.base import Context, Pass

__all__ = ["Identities", "bypass"]


class Identities(Pass):
    """Users of an ``Identity`` read its input instead.

    One that gives a graph output stays when its input cannot take the output's name: a graph input, a constant, a
    value of an outer graph, or a value that is an output already.
    """

    name = "identity"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Bodies are included."""
        count = sum(
            bypass(node, node.inputs[0], node.outputs[0])
            for node in onnx_graph.walk(model.graph)
            if node.op_type == "Identity" and not node.domain
        )
        return (f"{onnx_graph.many(count, 'Identity node')} removed",) if count else ()


def bypass(node: ir.Node, source: ir.Value | None, result: ir.Value) -> bool:
    """Let one value take the place of another that a node makes of it, and remove the node.

    Args:
        node: In the main graph or in a body.
        source: What the node reads.
        result: Its only output that is used.

    Returns:
        Whether it could be done.
    """
    graph = node.graph
    if source is None or graph is None:
        return False
    if not result.is_graph_output():
        result.replace_all_uses_with(source)
        graph.remove(node, safe=True)
        return True

    maker = source.producer()
    if maker is None or maker.graph is not graph or source.is_graph_output():
        return False
    result.replace_all_uses_with(source, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    take_over(result, source)
    return True
