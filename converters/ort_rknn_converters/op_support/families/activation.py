"""Activations."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import is_used, operand
from ort_rknn_converters.op_support.families.rule import BOOL, FLOAT, Rule, check, dims, is_constant
from ort_rknn_converters.targets import Target

__all__ = ["RULES"]


def _batch(node: ir.Node) -> int:
    # Ranks below 4 are reshaped to batch 1 by the compiler.
    shape = dims(node.inputs[0])
    return shape[0] if len(shape) >= 4 else 1


@check("PRelu: the slopes do not broadcast to the input")
def _slope(node: ir.Node, target: Target) -> bool:
    data, slope = dims(node.inputs[0]), dims(node.inputs[1])
    if len(slope) > len(data):
        return True
    return any(size not in (1, data[len(data) - len(slope) + axis]) for axis, size in enumerate(slope))


@check("LogSoftmax of a batch: the board's runtime has it for batch 1 only")
def _log_softmax_batch(node: ir.Node, target: Target) -> bool:
    return _batch(node) != 1


@check("Softmax of a batch: on this SoC the board's runtime has it for batch 1 only")
def _softmax_batch(node: ir.Node, target: Target) -> bool:
    return target.softmax_on_cpu and _batch(node) != 1


@check("Dropout in training mode aborts the compiler")
def _training(node: ir.Node, target: Target) -> bool:
    mode = operand(node, 2)
    if mode is None:
        return False
    return not is_constant(mode) or mode.const_value is None or bool(mode.const_value.numpy())


@check("Dropout's mask: the toolkit drops this output")
def _mask(node: ir.Node, target: Target) -> bool:
    return any(map(is_used, node.outputs[1:]))


RULES = {
    "Dropout": Rule(inputs=(FLOAT, FLOAT, BOOL), outputs=(FLOAT, BOOL), constants=(1, 2), checks=(_training, _mask)),
    "Elu": Rule(),
    "Erf": Rule(),
    "HardSigmoid": Rule(),
    "HardSwish": Rule(),
    "LeakyRelu": Rule(),
    "LogSoftmax": Rule(checks=(_log_softmax_batch,)),
    "PRelu": Rule(constants=(1,), checks=(_slope,)),
    "Relu": Rule(),
    "Sigmoid": Rule(),
    "Softmax": Rule(checks=(_softmax_batch,)),
    "Softplus": Rule(),
    "Tanh": Rule(),
    "ThresholdedRelu": Rule(),
}
