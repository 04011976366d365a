"""Names the inputs whose values decide about shapes and branches, and the option that makes those known."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import onnx_ir as ir

from ort_rknn_converters.graph.dataflow import DataFlow
from ort_rknn_converters.graph.nodes import operand
from ort_rknn_converters.graph.onnx_graph import static_shape
from ort_rknn_converters.op_support.decide import DYNAMIC
from ort_rknn_converters.partition.plan import Plan

__all__ = ["value_advice"]

_CONTROL = "control flow"
_FEW = 64
"""Elements of an input that may be a switch, a ratio or a size. A guess."""


_DECIDES: dict[str, tuple[int, ...]] = {
    "CenterCropPad": (1,),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "If": (0,),
    "Loop": (0, 1),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""Which inputs of an op decide about the shape of its result, or about what is run, by their values."""


def value_advice(flow: DataFlow, plan: Plan) -> Iterator[str]:
    """Sentences about nodes that are on the CPU for shapes or branches that follow from the value of a small input.

    Args:
        flow: The nodes that were cut.
        plan: Where they run.
    """
    number = {node.name or "": index for index, node in enumerate(flow.nodes)}
    found: dict[tuple[str, str, str], int] = {}
    for row in plan.nodes:
        if row.reason not in (DYNAMIC, _CONTROL) or row.name not in number:
            continue
        start = _start(flow, number[row.name])
        for name in _inputs(flow, start):
            node = flow.nodes[start]
            key = row.reason, name, f"{node.op_type} {node.name}"
            found[key] = found.get(key, 0) + 1
    for (reason, name, origin), count in sorted(found.items(), key=lambda one: -one[1]):
        what = "branches follow" if reason == _CONTROL else "shapes follow"
        nodes = f"{count} nodes" if count > 1 else "1 node"
        yield f"{nodes}: {what} from the value of input {name} (from {origin} on); --value {name}=... makes them known"


def _start(flow: DataFlow, index: int) -> int:
    """The first node, against the data's way, whose result has an open shape though its inputs have none."""
    seen = {index}
    while True:
        node = flow.nodes[index]
        open_inputs = [value for value in flow.reads[index] if static_shape(value) is None]
        before = [maker for value in open_inputs if (maker := flow.maker.get(value, -1)) >= 0 and maker not in seen]
        if not before or node.op_type in ("If", "Loop", "Scan"):
            return index
        index = before[0]
        seen.add(index)


def _inputs(flow: DataFlow, index: int) -> list[str]:
    """Small inputs of the graph that the operands are computed from which decide about a node's shape."""
    node = flow.nodes[index]
    deciding = (operand(node, position) for position in _DECIDES.get(node.op_type, ()))
    waiting = [value for value in deciding if value is not None and _small(value)]
    seen: set[ir.Value] = set()
    names: dict[str, None] = {}
    while waiting:
        value = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        maker = flow.maker.get(value, -1)
        if maker >= 0:
            waiting += [one for one in flow.reads[maker] if _small(one)]
        elif value.is_graph_input() and value.name and not value.is_initializer():
            names[value.name] = None
    return list(names)


def _small(value: ir.Value) -> bool:
    shape = static_shape(value)
    return shape is not None and prod(shape) <= _FEW
