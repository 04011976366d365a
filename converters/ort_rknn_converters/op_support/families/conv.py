"""Convolutions."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.op_support.families.rule import Rule, check, dims, is_constant
from ort_rknn_converters.targets import Target

__all__ = ["RULES", "overflows"]

_LONGEST, _WIDEST_KERNEL = 8192, 16
"""Rows and kernels of a Conv1d, of which one may be larger. Seen for rk3588: 8,192 by 400 and 16,000 by 16 fit."""


@check("grouped Conv3d aborts the compiler")
def _grouped_3d(node: ir.Node, target: Target) -> bool:
    return len(dims(node.inputs[0])) == 5 and attribute(node, "group", 1) != 1


@check("dilated Conv3d is converted wrongly")
def _dilated_3d(node: ir.Node, target: Target) -> bool:
    return len(dims(node.inputs[0])) == 5 and any(step != 1 for step in attribute(node, "dilations", ()))


@check("Conv1d with weights computed at run time crashes the compiler")
def _moving_weights_1d(node: ir.Node, target: Target) -> bool:
    # Seen with a bias; images and weights of rank 4 are fine.
    return len(dims(node.inputs[0])) == 3 and any(value and not is_constant(value) for value in node.inputs[1:])


def overflows(node: ir.Node) -> bool:
    """Whether a Conv1d is known not to fit an NPU's registers."""
    x, weights = dims(node.inputs[0]), dims(node.inputs[1])
    return len(x) == 3 and x[2] > _LONGEST and len(weights) == 3 and weights[2] > _WIDEST_KERNEL


@check(f"Conv1d of rows longer than {_LONGEST} by more than {_WIDEST_KERNEL}: it does not fit the NPU's registers")
def _long_rows(node: ir.Node, target: Target) -> bool:
    return target.long_reshapes_overflow and overflows(node)


@check("ConvTranspose3d aborts the compiler")
def _transposed_3d(node: ir.Node, target: Target) -> bool:
    return len(dims(node.inputs[0])) == 5


@check("ConvTranspose with auto_pad: the toolkit refuses it")
def _transposed_auto_pad(node: ir.Node, target: Target) -> bool:
    return str(attribute(node, "auto_pad", "NOTSET")).startswith("SAME")


RULES = {
    "Conv": Rule(ranks=(3, 5), checks=(_grouped_3d, _dilated_3d, _moving_weights_1d, _long_rows)),
    "ConvTranspose": Rule(ranks=(3, 5), checks=(_transposed_3d, _transposed_auto_pad)),
}
