"""A plan with the edges of its graph: what the placement picture is drawn from."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import onnx

from ort_rknn_conformance.result import GraphNode
from ort_rknn_converters.errors import ConvertError
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.plan import Plan

__all__ = ["count_ops", "placed_nodes"]


def placed_nodes(
    model: str | bytes | os.PathLike[str], plan: Plan, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[GraphNode, ...]:
    """The plan's nodes with the nodes each one reads from.

    Args:
        model: The ONNX model the plan was made of.
        plan: Its plan.
        shapes: Fixed shapes of inputs, as the plan was made with.

    Returns:
        The nodes in the plan's order, without edges where the model cannot be prepared again.
    """
    known = {node.name: number for number, node in enumerate(plan.nodes)}
    after = _edges(model, shapes, known)
    return tuple(
        GraphNode(node.name, node.op_type, node.place, node.reason, node.segment, after.get(node.name, ()))
        for node in plan.nodes
    )


def count_ops(model: onnx.ModelProto) -> dict[str, int]:
    """Op type -> number of nodes of the main graph; ops outside the standard with their domain in front."""
    return dict(
        Counter(
            node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
            for node in model.graph.node
        )
    )


def _edges(model: Any, shapes: Mapping[str, tuple[int, ...]], known: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    from ort_rknn_converters.graph.dataflow import DataFlow
    from ort_rknn_converters.pipeline.convert import prepared

    try:
        flow = DataFlow.of(prepared(model, ConvertOptions(shapes=shapes)).model.graph)
    except ConvertError:
        return {}
    names = [node.name or "" for node in flow.nodes]
    return {
        name: tuple(sorted(known[names[giver]] for giver in givers if names[giver] in known))
        for name, givers in zip(names, flow.before, strict=True)
    }
