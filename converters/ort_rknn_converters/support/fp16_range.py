"""Constants that fp16 cannot hold: -inf and -3.4e38 in attention masks, mostly.

The compiler silently puts -10000 in their place (seen with Where, Add and Mul). Before a Softmax that changes nothing;
anywhere else the answer is wrong.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.support.rule import FLOAT, constant

__all__ = ["REASON", "out_of_range"]

REASON = "a constant beyond fp16's range, which the compiler replaces by 10000"

_FP16_MAX = 65504.0
_USES = frozenset({"Add", "Concat", "Div", "Expand", "Max", "Mul", "Pad", "Pow", "Sub", "Where"})
# What may stand between a mask and the Softmax it is for.
_MASK_WAY = frozenset(
    {"Add", "Cast", "Concat", "Div", "Expand", "Flatten", "Identity", "Mul", "Reshape", "Slice", "Squeeze", "Sub"}
    | {"Transpose", "Unsqueeze", "Where"}
)
# Nodes looked at on that way; ONNX's own attention function has eight. A guess.
_FAR = 64


def out_of_range(node: ir.Node) -> bool:
    """Whether a constant of the node is beyond fp16 and its effect may be seen outside of a Softmax."""
    if node.op_type not in _USES:
        return False
    for position, value in enumerate(node.inputs):
        if value is None or value.dtype not in FLOAT:
            continue
        array = constant(node, position)
        if array is not None and array.size and not np.abs(array.astype(np.float64)).max() <= _FP16_MAX:
            return not _ends_in_softmax(node)
    return False


def _ends_in_softmax(node: ir.Node) -> bool:
    waiting, seen = list(node.outputs[:1]), 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if value.is_graph_output() or seen > _FAR:
            return False
        for user, _ in value.uses():
            if user.op_type in ("Softmax", "LogSoftmax"):
                continue
            if user.op_type not in _MASK_WAY or user.graph is not node.graph:
                return False
            waiting.append(user.outputs[0])
    return True
