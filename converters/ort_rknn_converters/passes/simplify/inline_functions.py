"""Inlines the model's own functions, so that their nodes can be placed one by one."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.passes.base import Context, Pass

__all__ = ["Functions"]

_MOST_NODES = 200_000
"""Nodes that functions may be expanded into, on the way as well. A guess: the largest model seen has 20,000."""

_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


class Functions(Pass):
    """Puts function bodies in the place of their calls, everywhere.

    A function written for another version of an op set than the model's stays a call (onnxruntime runs it), and so
    does one that is called with a graph as an attribute.
    """

    name = "functions"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Raises ModelError for functions that call each other in a circle, calls that do not fit, or too many."""
        if not model.functions:
            return ()
        stay = {key for key, function in model.functions.items() if _version_differs(function, model)}
        stay |= _called_with_graphs(model)
        if (size := _inlined_size(model)) > _MOST_NODES:
            raise ModelError(
                f"the calls in calls of its {len(model.functions)} functions would become {size:,} nodes, and"
                f" {_MOST_NODES:,} are converted at most"
            )
        for function in model.functions.values():
            _unshare_outputs(function)
            _rename_inside(function, ctx)
        inline = InlinePass(criteria=lambda function: function.identifier() not in stay)
        try:
            result = inline(model)
        except (ir.passes.PassError, ir.passes.PreconditionError) as error:
            raise ModelError(f"the model's functions cannot be inlined: {error.__cause__ or error}") from error
        for graph in (model.graph, *model.graph.subgraphs()):
            for node in graph:
                ctx.names.add(*(value.name for value in node.outputs if value.name), node.name or "")
        used = {node.op_identifier() for node in onnx_graph.walk(model.graph)}
        for key in [key for key in model.functions if key not in used and key not in stay]:
            del model.functions[key]
        counts = getattr(result, "id_count", {})
        return tuple(
            f"{onnx_graph.many(count, 'call')} of function {key[1]} inlined"
            for key, count in counts.items()
            if key not in stay
        )


def _inlined_size(model: ir.Model) -> int:
    """Nodes there would be, those of each function once more: a chain of calls is expanded link by link.

    A circle of calls counts nothing: inlining says so.
    """
    calls = {
        key: [node.op_identifier() for node in onnx_graph.walk(function.graph)]
        for key, function in model.functions.items()
    }
    sizes: dict[ir.OperatorIdentifier, int] = {}
    for start in calls:
        waiting, open_now = [start], set[ir.OperatorIdentifier]()
        while waiting:
            key = waiting[-1]
            missing = [one for one in calls[key] if one in calls and one not in sizes and one not in open_now]
            if key in sizes or not missing:
                sizes.setdefault(key, sum(1 + sizes.get(one, 0) for one in calls[key]))
                open_now.discard(waiting.pop())
            else:
                open_now.add(key)
                waiting.extend(dict.fromkeys(missing))
    main = sum(sizes.get(node.op_identifier(), 1) for node in onnx_graph.walk(model.graph))
    return main + sum(sizes.values())


def _version_differs(function: ir.Function, model: ir.Model) -> bool:
    imports = model.opset_imports
    return any(imports.get(domain, version) != version for domain, version in function.opset_imports.items())


def _called_with_graphs(model: ir.Model) -> set[ir.OperatorIdentifier]:
    found = set()
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        for node in onnx_graph.walk(graph):
            if node.op_identifier() in model.functions and any(a.type in _GRAPHS for a in node.attributes.values()):
                found.add(node.op_identifier())
    return found


def _unshare_outputs(function: ir.Function) -> None:
    """Give each output a node of its own: inlining renames outputs, which must not hit an input or each other."""
    seen: set[ir.Value] = set(function.inputs)
    for index, value in enumerate(function.outputs):
        if value in seen or value.producer() is None:
            node = ir.node("Identity", [value])
            function.append(node)
            function.outputs[index] = node.outputs[0]
        seen.add(value)


def _rename_inside(function: ir.Function, ctx: Context) -> None:
    """Names no other value has: an inlined value must not hide one that a body inside the graph reads."""
    for node in onnx_graph.walk(function.graph):
        for value in node.outputs:
            if value.name:
                value.name = ctx.name(f"{function.name}/{value.name}")
