"""Logarithms of spectra: the squares they are of, and the transform before them, need all digits of float32.

A loud tone and the quiet rest are 100 dB apart in one frame; fp16 rounds the transform's weights, so that of the tone
more than the rest leaks into every bin, and the logarithm shows it. Seen: a speech-quality network off by 0.5 of its
five points, while random noise shows nothing. The transform is a small part of such a model.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from ort_rknn_converters.graph.dataflow import DataFlow
from ort_rknn_converters.graph.nodes import operand
from ort_rknn_converters.graph.onnx_graph import constant

__all__ = ["REASON", "spectrum_paths"]

REASON = "the logarithm of a spectrum: quiet parts beside loud ones are lost in fp16"

_RELABEL = frozenset(
    {"Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze"}
    | {"Transpose", "Unsqueeze"}
)
_SUMS = _RELABEL | {"Add", "Clip", "Div", "Max", "Min", "Mul", "ReduceMax", "ReduceMean", "ReduceSum", "Sqrt", "Sum"}
_SQUARES = frozenset({"Abs", "Pow", "ReduceL2", "ReduceSumSquare"})
_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
_TRANSFORMS = frozenset({"DFT", "STFT"})
_BEFORE = _SUMS | {"Neg", "Pow", "Sub"}
_FAR = 24  # nodes looked back at in each part. A guess: magnitudes with a filter bank have a dozen.


def spectrum_paths(flow: DataFlow) -> set[int]:
    """Indices of the logarithms and compressing powers of spectra, and of what makes these of the model's inputs."""
    found: set[int] = set()
    for index, node in enumerate(flow.nodes):
        if node.op_type == "Log" or _compresses(node):
            found |= _behind(flow, index)
    return found


def _behind(flow: DataFlow, end: int) -> set[int]:
    """Sums back to squares, squares to a product by constants or none, that to the model's inputs; else nothing."""
    sums, squares = _back(flow, [end], _SUMS | _PRODUCTS, _is_square)
    between, transforms = _back(flow, squares, _BEFORE, _is_transform)
    before, network = _back(flow, transforms, _BEFORE, lambda node: node.op_type in _PRODUCTS)
    inside = sums | between | before | {end, *squares, *transforms}
    makers = {maker for index in inside for maker in flow.before[index]}
    # Whatever else makes an operand is no front end: only the caller does.
    return inside if squares and not network and makers <= inside else set()


def _back(
    flow: DataFlow, ends: list[int], through: frozenset[str], until: Callable[[ir.Node], bool]
) -> tuple[set[int], list[int]]:
    """The nodes of some ops before others, and those it ends with."""
    passed: dict[int, int] = {}
    last: list[int] = []
    waiting = [(index, 0) for index in ends]
    while waiting:
        index, steps = waiting.pop()
        for maker in flow.before[index]:
            node = flow.nodes[maker]
            if maker in passed or maker in last:
                continue
            if until(node):
                last.append(maker)
            elif node.op_type in through and steps < _FAR and (node.op_type not in _PRODUCTS or _by_constant(node)):
                passed[maker] = steps + 1
                waiting.append((maker, steps + 1))
    return set(passed), last


def _is_square(node: ir.Node) -> bool:
    if node.op_type == "Mul":
        return node.inputs[0] is node.inputs[1]
    if node.op_type == "Pow":
        tensor = constant(operand(node, 1))
        return tensor is not None and bool((tensor.numpy() >= 1).all())
    return node.op_type in _SQUARES


def _is_transform(node: ir.Node) -> bool:
    return node.op_type in _TRANSFORMS or (node.op_type in _PRODUCTS and _by_constant(node))


def _by_constant(node: ir.Node) -> bool:
    return any(constant(value) is not None for value in node.inputs[:2])


def _compresses(node: ir.Node) -> bool:
    if node.op_type != "Pow":
        return False
    tensor = constant(operand(node, 1))
    return tensor is not None and bool(((tensor.numpy() > 0) & (tensor.numpy() < 0.5)).all())
