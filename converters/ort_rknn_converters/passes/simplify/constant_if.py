"""Replaces an ``If`` whose condition is a constant by the branch it takes."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import take_over
from ort_rknn_converters.passes.base import Context, Pass, let_go_of_bodies

__all__ = ["IfKnown"]


class IfKnown(Pass):
    """Moves the nodes and constants of the branch taken into the graph, under names nobody else has.

    Nested ones come out level by level, as the rounds of preparation go on.
    """

    name = "if"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Only the main graph's nodes: a body is run by the CPU as it is."""
        count = 0
        for node in list(model.graph):
            if node.op_type != "If" or node.domain:
                continue
            condition = onnx_graph.constant(node.inputs[0])
            if condition is None or condition.size != 1:
                continue
            taken = node.attributes["then_branch" if condition.numpy().item() else "else_branch"].as_graph()
            _inline(model.graph, node, taken, ctx)
            count += 1
        return (
            (f"{onnx_graph.many(count, 'If node')} with a known condition replaced by the branch taken",)
            if count
            else ()
        )


def _inline(graph: ir.Graph, node: ir.Node, branch: ir.Graph, ctx: Context) -> None:
    results = list(branch.outputs)
    branch.outputs.clear()
    for value in list(branch.initializers.values()):
        assert value.name is not None
        assert value.const_value is not None
        branch.initializers.pop(value.name)
        # A new value rather than a new name: the tensor may be the caller's.
        new = onnx_graph.initializer(ctx.name(value.name), value.const_value)
        value.replace_all_uses_with(new)
        results = [new if each is value else each for each in results]
        graph.register_initializer(new)

    inner = list(branch)
    branch.remove(inner)
    for each in inner:
        each.name = ctx.name(each.name) if each.name else None
        for value in each.outputs:
            if value.name:
                value.name = ctx.name(value.name)
    graph.insert_before(node, inner)

    ours = {value for each in inner for value in each.outputs}
    for was, new in zip(node.outputs, results, strict=True):
        _stand_in(graph, node, was, new, ours, ctx)
        ours.discard(new)
    graph.remove(node, safe=True)
    # The branch not taken must no longer count as a user of outer values.
    let_go_of_bodies(node)


def _stand_in(graph: ir.Graph, node: ir.Node, was: ir.Value, new: ir.Value, ours: set[ir.Value], ctx: Context) -> None:
    """Let ``new`` take the place of ``was``; a graph output keeps its name, with an ``Identity`` where it must."""
    if not was.is_graph_output():
        was.replace_all_uses_with(new)
        return
    if new not in ours:
        identity = ir.node("Identity", [new], name=ctx.name("Identity"))
        graph.insert_before(node, identity)
        new = identity.outputs[0]
    take_over(was, new)
    was.replace_all_uses_with(new, replace_graph_outputs=True)
