"""Resizing."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.op_support.families.rule import FLOAT, NUMBER, Rule, check, dims
from ort_rknn_converters.targets import Target

__all__ = ["RULES"]

_COORDINATES = frozenset({"half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"})


def _mode(node: ir.Node) -> str:
    return str(attribute(node, "mode", "nearest"))


@check("cubic Resize crashes the compiler")
def _cubic(node: ir.Node, target: Target) -> bool:
    return _mode(node) == "cubic"


@check("antialiased Resize: not known to be in the board's runtime")
def _antialias(node: ir.Node, target: Target) -> bool:
    return bool(attribute(node, "antialias", 0))


def _coordinates(node: ir.Node, target: Target) -> str | None:
    mode = attribute(node, "coordinate_transformation_mode", "half_pixel")
    return None if mode in _COORDINATES else f"Resize in {mode} coordinates: not known to be in the board's runtime"


@check("Resize of more than height and width: the vendor lists images only")
def _batch_or_channels(node: ir.Node, target: Target) -> bool:
    return dims(node.inputs[0])[:2] != dims(node.outputs[0])[:2]


RULES = {
    "Resize": Rule(
        inputs=(FLOAT, FLOAT, FLOAT, NUMBER),
        constants=(1, 2, 3),
        ranks=(3, 4),
        checks=(_cubic, _antialias, _coordinates, _batch_or_channels),
    ),
    "Upsample": Rule(constants=(1,), ranks=(4, 4), checks=(_batch_or_channels,)),
}
