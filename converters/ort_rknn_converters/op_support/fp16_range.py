"""Constants that fp16 cannot hold: -inf and -3.4e38 in attention masks, mostly.

The compiler silently puts -10000 in their place (seen with Where, Add and Mul). Before a Softmax that changes nothing;
anywhere else the answer is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.onnx_file.tensor_types import FP16_MAX
from ort_rknn_converters.op_support.families.rule import FLOAT, constant

__all__ = ["FORBIDDEN", "REASON", "SEES_NOTHING", "out_of_range", "way_to_softmax"]

REASON = "a constant beyond fp16's range, which the compiler replaces by 10000"

FORBIDDEN = -8000.0
"""What a mask may hold in the place of minus infinity: no score comes near, and two of them added up stay below a
quarter of fp16's range, from where on values are suspected to overflow. A guess."""

SEES_NOTHING = FORBIDDEN / 2
"""A row of such a mask with no larger number forbids everything."""

_USES = frozenset({"Add", "Concat", "Div", "Expand", "Max", "Mul", "Pad", "Pow", "Sub", "Where"})
# What may stand between a mask and the Softmax it is for.
_MASK_WAY = frozenset(
    {"Add", "Cast", "Concat", "Div", "Expand", "Flatten", "Identity", "Mul", "Reshape", "Slice", "Squeeze", "Sub"}
    | {"Transpose", "Unsqueeze", "Where"}
)


def out_of_range(node: ir.Node) -> bool:
    """Whether a float constant of the node is beyond fp16, in an op where the compiler was seen to replace it."""
    return any(np.abs(array).max() > FP16_MAX or np.isnan(array).any() for array in _constants(node))


def way_to_softmax(node: ir.Node) -> list[ir.Node] | None:
    """The nodes from one with such a constant to the Softmax it is a mask for, that Softmax included.

    ``None`` when its effect may be seen elsewhere: in another op, in an output of the graph, or in a row masked as a
    whole, which Softmax turns into NaN and the compiler's numbers do not.
    """
    if any(_whole_rows(array) for array in _constants(node)):
        return None
    # The mask of a text model goes to the Softmax of every layer.
    waiting, way, seen = list(node.outputs[:1]), [node], {node}
    while waiting:
        value = waiting.pop()
        if value.is_graph_output():
            return None
        for user, _ in value.uses():
            softmax = user.op_type in ("Softmax", "LogSoftmax")
            if user.graph is not node.graph or not (softmax or user.op_type in _MASK_WAY):
                return None
            if user in seen:
                continue
            seen.add(user)
            way.append(user)
            if not softmax:
                waiting.append(user.outputs[0])
    return way


def _constants(node: ir.Node) -> list[np.ndarray[Any, Any]]:
    if node.op_type not in _USES:
        return []
    found = []
    for position, value in enumerate(node.inputs):
        if value is not None and value.dtype in FLOAT:
            array = constant(node, position)
            if array is not None and array.size:
                found.append(array.astype(np.float64))
    return found


def _whole_rows(array: np.ndarray[Any, Any]) -> bool:
    masked = ~(array >= -FP16_MAX)
    return array.ndim > 0 and array.shape[-1] > 1 and bool(masked.all(axis=-1).any())
