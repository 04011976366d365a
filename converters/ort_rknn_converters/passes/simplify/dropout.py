"""Removes ``Dropout`` that does nothing: every one that is not in training mode."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, is_used, operand
from ort_rknn_converters.passes.base import Context, Pass
from ort_rknn_converters.passes.simplify.identity import bypass

__all__ = ["Dropouts"]


class Dropouts(Pass):
    """``Dropout`` in inference mode becomes its input. Where its mask is used, or its mode is not known, it stays."""

    name = "dropout"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Bodies are included."""
        count = 0
        for node in onnx_graph.walk(model.graph):
            if node.op_type != "Dropout" or node.domain or _training(node, ctx.opset):
                continue
            if any(map(is_used, node.outputs[1:])):
                continue
            count += bypass(node, node.inputs[0], node.outputs[0])
        return (f"{onnx_graph.many(count, 'Dropout node')} removed (inference mode)",) if count else ()


def _training(node: ir.Node, opset: int) -> bool:
    if opset < 7:
        return not attribute(node, "is_test", 0)
    mode = operand(node, 2)
    if mode is None:
        return False
    known = onnx_graph.constant(mode)
    return known is None or bool(known.numpy())
