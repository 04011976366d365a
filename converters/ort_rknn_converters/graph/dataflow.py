"""The main graph as integers: who gives values to whom, captures of control-flow bodies included.

Partitioning asks the same questions thousands of times; lists of indices answer them in near-linear time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import onnx_ir as ir

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph.nodes import bodies
from ort_rknn_converters.graph.onnx_graph import constant
from ort_rknn_converters.util.frozen import frozen

__all__ = ["DataFlow", "boundary", "reads"]


@frozen
class DataFlow:
    """The nodes of a model's main graph and the edges between them.

    Attributes:
        nodes: The nodes in topological order; where the model is in order already, its own.
        reads: For each node, the distinct values it reads that are not constants, those its bodies capture included.
        before: For each node, the indices of the nodes that give it values.
        after: For each node, the indices of the nodes that take its values.
        maker: Index of the node that makes a value.
        results: The graph's outputs.
    """

    nodes: tuple[ir.Node, ...]
    reads: tuple[tuple[ir.Value, ...], ...]
    before: tuple[tuple[int, ...], ...]
    after: tuple[tuple[int, ...], ...]
    maker: dict[ir.Value, int]
    results: frozenset[ir.Value]

    @classmethod
    def of(cls, graph: ir.Graph) -> DataFlow:
        """Read the graph.

        Raises:
            ModelError: The graph has a cycle.
        """
        nodes = tuple(_sorted(list(graph)))
        maker = {value: index for index, node in enumerate(nodes) for value in node.outputs}
        taken = tuple(tuple(value for value in reads(node) if constant(value) is None) for node in nodes)
        before = tuple(tuple(dict.fromkeys(maker[value] for value in values if value in maker)) for values in taken)
        after: list[list[int]] = [[] for _ in nodes]
        for index, givers in enumerate(before):
            for giver in givers:
                after[giver].append(index)
        return cls(nodes, taken, before, tuple(map(tuple, after)), maker, frozenset(graph.outputs))


def reads(node: ir.Node) -> tuple[ir.Value, ...]:
    """Every value of the node's own graph that it reads: its inputs, and what the bodies inside it capture."""
    found = [value for value in node.inputs if value is not None]
    for body in bodies(node):
        inside = [value for inner in ir.traversal.RecursiveGraphIterator(body) for value in inner.inputs]
        found += [value for value in (*inside, *body.outputs) if value is not None and value.graph is node.graph]
    return tuple(dict.fromkeys(found))


def boundary(flow: DataFlow, members: Iterable[int]) -> tuple[list[ir.Value], list[ir.Value]]:
    """Values that enter and that leave a set of nodes, each in the order of first use or making."""
    indices = sorted(members)
    inside = set(indices)
    entering = dict.fromkeys(
        value for index in indices for value in flow.reads[index] if not _made(flow, value, inside)
    )
    leaving = []
    for index in indices:
        takers = [taker for taker in flow.after[index] if taker not in inside]
        outside = {value for taker in takers for value in flow.reads[taker]}
        leaving += [value for value in flow.nodes[index].outputs if value in outside or value in flow.results]
    return list(entering), leaving


def _made(flow: DataFlow, value: ir.Value, inside: set[int]) -> bool:
    return flow.maker.get(value, -1) in inside


def _sorted(nodes: list[ir.Node]) -> list[ir.Node]:
    """The nodes in topological order, unchanged where they are already."""
    maker = {value: index for index, node in enumerate(nodes) for value in node.outputs}
    before = [{maker[value] for value in reads(node) if value in maker} for node in nodes]
    if all(giver < index for index, givers in enumerate(before) for giver in givers):
        return nodes

    waiting = [len(givers) for givers in before]
    after: list[list[int]] = [[] for _ in nodes]
    for index, givers in enumerate(before):
        for giver in givers:
            after[giver].append(index)
    ready = deque(index for index, count in enumerate(waiting) if not count)
    order = []
    while ready:
        index = ready.popleft()
        order.append(nodes[index])
        for taker in after[index]:
            waiting[taker] -= 1
            if not waiting[taker]:
                ready.append(taker)
    if len(order) < len(nodes):
        stuck = next(nodes[index] for index, count in enumerate(waiting) if count)
        raise ModelError(f"the graph has a cycle through {stuck.op_type} {stuck.name!r}")
    return order
