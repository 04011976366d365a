"""Nodes around whole numbers of quantized models: sums too large for fp16, scales too small, results to be exact.

Seen with text models that onnxruntime quantized: each product cost several compilations to find that out.
"""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph.dataflow import DataFlow

__all__ = ["REASON", "ROUNDED_REASON", "rounded_results", "scaling_paths"]

REASON = "scales an integer product: its sums are beyond fp16's range, and its scales nearly zero there"

ROUNDED_REASON = "rounded to whole numbers for the caller, who compares them"

_PRODUCTS = frozenset({"ConvInteger", "MatMulInteger"})


def scaling_paths(flow: DataFlow) -> set[int]:
    """Indices of the nodes that turn integer sums into floats: the Cast, the Mul by the scales, their product."""
    found: set[ir.Node] = set()
    for node in flow.nodes:
        if node.op_type in _PRODUCTS:
            casts = _users(node.outputs[0], "Cast")
            found.update(casts)
            found.update(user for cast in casts for user in _users(cast.outputs[0], "Mul"))
        elif node.op_type == "DynamicQuantizeLinear":
            found.update(_users(node.outputs[1], "Mul"))
    return {index for index, node in enumerate(flow.nodes) if node in found}


def rounded_results(flow: DataFlow) -> set[int]:
    """Indices of the nodes whose result is rounded to 8 bits that leave the model: one step off is another number."""
    found: set[int] = set()
    for index, node in enumerate(flow.nodes):
        if node.op_type != "QuantizeLinear" or node.domain or not node.outputs[0].is_graph_output():
            continue
        found.update(flow.before[index])
    return found


def _users(value: ir.Value, op_type: str) -> list[ir.Node]:
    return [node for node in value.consumers() if node.op_type == op_type]
