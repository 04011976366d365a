"""Base classes of passes and of rewrites of single ops, and the small things they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import bodies, is_used
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.passes.tape import Tape

__all__ = [
    "FLOATS",
    "OLDEST",
    "Context",
    "Pass",
    "Rewrite",
    "Tape",
    "drop_unused",
    "kept_for_cpu",
    "let_go_of_bodies",
]

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})
"""Element types on which the float rewrites are right (integers would round or wrap differently)."""

OLDEST = 7
"""Oldest opset rewritten: onnxruntime runs few ops older than that, and broadcasting was another."""


@dataclass
class Context:
    """Facts that passes know besides the model.

    Attributes:
        options: The user's.
        opset: Version of the standard's ops in this model.
        names: The names of values and nodes in the graph and in its bodies.
        endless: Nodes that took too long to compute, or too much memory: they stay.
        room: Bytes by which folding may still make the model grow; ``None`` before the first.
    """

    options: ConvertOptions
    opset: int
    names: onnx_graph.Names = field(default_factory=onnx_graph.Names)
    endless: set[ir.Node] = field(default_factory=set)
    room: int | None = None

    @classmethod
    def of(cls, model: ir.Model, options: ConvertOptions) -> Context:
        """The context of ``model``."""
        return cls(options, model.opset_imports.get("", 1), onnx_graph.Names(_taken(model.graph)))

    def name(self, base: str) -> str:
        """A new name like ``base``."""
        return self.names.new(base)


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
    domain: ClassVar[str] = ""
    says: ClassVar[str]

    @abstractmethod
    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Write the replacement on ``tape`` and return the new values of the outputs, or ``None`` to leave the node.

        An output may only be given as ``None`` when nothing uses it.
        """

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Offer every node of ``op_types`` to :meth:`rewrite`."""
        if ctx.opset < OLDEST:
            return ()
        done: Counter[str] = Counter()
        for node in list(model.graph):
            if node.domain != self.domain or node.op_type not in self.op_types or kept_for_cpu(node, ctx):
                continue
            tape = Tape(model, ctx, ctx.opset, node)
            outputs = self.rewrite(node, tape)
            if outputs is None:
                tape.discard()
            else:
                tape.commit(outputs)
                done[node.op_type] += 1
        return tuple(f"{count} {op_type} rewritten as {self.says}" for op_type, count in done.items())


def kept_for_cpu(node: ir.Node, ctx: Context) -> bool:
    """Whether the user wants this node on the CPU, where the original op is the best one."""
    return node.op_type in ctx.options.cpu_ops or node.name in ctx.options.cpu_nodes


def drop_unused(model: ir.Model) -> int:
    """Remove nodes and constants of the main graph that nothing uses; returns how many nodes went."""
    removed = 0
    graph = model.graph
    for node in reversed(list(graph)):
        if not any(map(is_used, node.outputs)):
            graph.remove(node, safe=True)
            let_go_of_bodies(node)
            removed += 1
    for value in list(graph.initializers.values()):
        if not is_used(value) and not value.is_graph_input():
            assert value.name is not None
            graph.initializers.pop(value.name)
    return removed


def let_go_of_bodies(node: ir.Node) -> None:
    """Make the bodies of a removed node stop using values of the graph it was in."""
    for body in bodies(node):
        for inner in onnx_graph.walk(body):
            for index in range(len(inner.inputs)):
                inner.replace_input_with(index, None)


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
