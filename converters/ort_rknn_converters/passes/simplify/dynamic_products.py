"""Products of values that are rounded to 8 bits at run time -> products of the floats, with the weights they stand for.

onnxruntime's dynamic quantizer writes text models so. The NPU has no such integers; in fp16 the product is more exact
than the model's own, and differs from it by the step of its rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute, operands
from ort_rknn_converters.passes.base import Context, Pass, Tape, kept_for_cpu

__all__ = ["DynamicProducts", "rounds_at_run_time"]

_INTEGER = frozenset({"ConvInteger", "MatMulInteger"})
_FUSED = frozenset({"DynamicQuantizeMatMul", "MatMulIntegerToFloat"})
_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")

Array = np.ndarray[Any, Any]


def rounds_at_run_time(model: ir.Model) -> bool:
    """Whether a model has products that this pass may take."""
    return any(node.op_type in _INTEGER or node.op_type in _FUSED for node in model.graph)


class DynamicProducts(Pass):
    """Not exact: whoever uses it compares both on inputs. Left alone where scales are not found, or of another form."""

    name = "dynamic-products"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """MatMulInteger and ConvInteger with what scales them, and onnxruntime's two fused forms."""
        done = 0
        for node in list(model.graph):
            if node.graph is None or kept_for_cpu(node, ctx):
                continue
            if node.op_type in _INTEGER and not node.domain:
                done += _integer(node, model, ctx)
            elif node.op_type in _FUSED and node.domain == "com.microsoft":
                done += _fused(node, model, ctx)
        if not done:
            return ()
        return (f"{onnx_graph.many(done, 'product')} rounded to 8 bits at run time computed in floats",)


def _integer(node: ir.Node, model: ir.Model, ctx: Context) -> bool:
    a, b, a_zero, b_zero = operands(node, 4)
    x, x_scale = _rounded(a, a_zero)
    second, scale = _rounded(b, b_zero)
    weights = None if second is not None else _whole_numbers(b, b_zero, node)
    needed = {one for one in (x_scale, scale) if one is not None}
    if x is None or (second is None and weights is None):
        return False
    found = _scaled(node.outputs[0], needed)
    if found is None:
        return False
    last, factor = found
    tape = Tape(model, ctx, ctx.opset, last)
    if weights is not None:
        scaled = _times(weights, factor, conv=node.op_type == "ConvInteger")
        if scaled is None:
            tape.discard()
            return False
        second, factor = tape.const(scaled), np.ones(())
    elif factor.size != 1:
        tape.discard()
        return False
    if node.op_type == "ConvInteger":
        y = tape.op("Conv", x, second, **{name: attribute(node, name) for name in _CONV})
    else:
        y = tape.op("MatMul", x, second)
    if float(factor.reshape(-1)[0]) != 1:
        y = tape.op("Mul", y, tape.const(np.float32(factor.reshape(-1)[0])))
    tape.commit([y])
    return True


def _fused(node: ir.Node, model: ir.Model, ctx: Context) -> bool:
    if node.op_type == "DynamicQuantizeMatMul":
        x, b, scale, zero, bias = operands(node, 5)
    else:
        a, b, a_scale, scale, a_zero, zero, bias = operands(node, 7)
        x, found = _rounded(a, a_zero)
        if found is not a_scale:
            return False
    weights, factor = _whole_numbers(b, zero, node), onnx_graph.constant(scale)
    scaled = None if weights is None or factor is None else _times(weights, factor.numpy(), conv=False)
    if x is None or scaled is None:
        return False
    tape = Tape(model, ctx, ctx.opset, node)
    y = tape.op("MatMul", x, tape.const(scaled))
    tape.commit([y if bias is None else tape.op("Add", y, bias)])
    return True


def _rounded(value: ir.Value | None, zero: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    """The floats that are rounded at run time, and their scale; ``None`` where that is not so."""
    maker = value.producer() if value is not None else None
    if maker is None or maker.op_type != "DynamicQuantizeLinear" or value is not maker.outputs[0]:
        return None, None
    return (maker.inputs[0], maker.outputs[1]) if zero is maker.outputs[2] else (None, None)


def _whole_numbers(value: ir.Value | None, zero: ir.Value | None, node: ir.Node) -> Array | None:
    """Constant weights without their zero point, not yet scaled."""
    stored, lowest = onnx_graph.constant(value), onnx_graph.constant(zero)
    if stored is None or (zero is not None and lowest is None):
        return None
    numbers: Array = stored.numpy().astype(np.float32)
    if lowest is None:
        return numbers
    least: Array = lowest.numpy().astype(np.float32)
    if least.size > 1 and node.op_type == "ConvInteger":
        least = least.reshape(-1, *[1] * (numbers.ndim - 1))
    return numbers - (least.reshape(()) if least.size == 1 else least)


def _times(weights: Array, factor: Array, *, conv: bool) -> Array | None:
    """Weights with one scale, or one for each thing they make."""
    if factor.size == 1:
        return weights * factor.reshape(()).astype(np.float32)
    made = weights.shape[0] if conv else weights.shape[-1]
    if factor.size != made:
        return None
    shape = (-1, *[1] * (weights.ndim - 1)) if conv else (-1,)
    return weights * factor.astype(np.float32).reshape(shape)


def _scaled(total: ir.Value, needed: set[ir.Value]) -> tuple[ir.Node, Array] | None:
    """The last of the Muls behind integer sums that scale them, and the constant part of what they do."""
    value, missing, factor = _only(total, "Cast"), set(needed), np.ones((), np.float64)
    last: ir.Node | None = None
    if value is None or attribute(value, "to", 0) != ir.DataType.FLOAT:
        return None
    node = value
    while missing or (factor.size == 1 and factor.reshape(()) == 1):
        following = _only(node.outputs[0], "Mul")
        if following is None:
            break
        other = following.inputs[0] if following.inputs[1] is node.outputs[0] else following.inputs[1]
        leaves = list(_leaves(other))
        moving = [leaf for leaf in leaves if onnx_graph.constant(leaf) is None]
        if any(leaf not in missing for leaf in moving) or len(set(moving)) != len(moving):
            break
        missing -= set(moving)
        for leaf in leaves:
            if (tensor := onnx_graph.constant(leaf)) is not None:
                factor = factor * tensor.numpy().astype(np.float64)
        node = last = following
    return None if missing or last is None else (last, factor)


def _leaves(value: ir.Value | None) -> Iterator[ir.Value]:
    """Factors of a product."""
    maker = value.producer() if value is not None else None
    if maker is not None and maker.op_type == "Mul" and not maker.domain:
        for one in maker.inputs:
            yield from _leaves(one)
    elif value is not None:
        yield value


def _only(value: ir.Value, op_type: str) -> ir.Node | None:
    """The one node that reads a value, where it is of this op."""
    users = value.consumers()
    if value.is_graph_output() or len(users) != 1 or users[0].op_type != op_type or users[0].domain:
        return None
    return users[0]
