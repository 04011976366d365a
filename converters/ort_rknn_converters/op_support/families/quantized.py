"""The pairs of QuantizeLinear and DequantizeLinear by which a model brings its own int8 quantization.

Seen: a CNN of such pairs, taken with quantization off, becomes int8 code for the NPU, 1 or 2 units off ONNX Runtime.
"""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.op_support.families.rule import FLOAT, Rule, check, dims, is_constant
from ort_rknn_converters.targets import Target

__all__ = ["RULES"]

_BYTES = frozenset({ir.DataType.INT8, ir.DataType.UINT8})
_STORED = _BYTES | {ir.DataType.INT32}


@check("quantization with a scale for each block")
def _blocked(node: ir.Node, target: Target) -> bool:
    return len(dims(node.inputs[1])) > 1


@check("QuantizeLinear without its DequantizeLinear")
def _unpaired(node: ir.Node, target: Target) -> bool:
    users = node.outputs[0].consumers()
    return not users or any(user.op_type != "DequantizeLinear" for user in users)


@check("DequantizeLinear without its QuantizeLinear")
def _made_elsewhere(node: ir.Node, target: Target) -> bool:
    value = node.inputs[0]
    assert value is not None
    maker = value.producer()
    return not is_constant(value) and (maker is None or maker.op_type != "QuantizeLinear")


RULES = {
    "DequantizeLinear": Rule(inputs=(_STORED, FLOAT, _STORED), constants=(1, 2), checks=(_blocked, _made_elsewhere)),
    "QuantizeLinear": Rule(
        inputs=(FLOAT, FLOAT, _BYTES), outputs=(_BYTES,), constants=(1, 2), checks=(_blocked, _unpaired)
    ),
}
