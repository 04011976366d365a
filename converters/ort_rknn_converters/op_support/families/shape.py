"""Ops that only move data."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.op_support.families.rule import (
    BOOL,
    FLOAT,
    INDEX,
    NUMBER,
    Rule,
    Types,
    check,
    constant,
    dims,
)
from ort_rknn_converters.targets import Target

__all__ = ["RULES", "WIDEST"]

_ANY: Types = NUMBER | BOOL
_WITH_POSITIONS: tuple[Types, ...] = (FLOAT, INDEX)


@check("Split with a zero-length part: the toolkit drops the whole Split")
def _empty_part(node: ir.Node, target: Target) -> bool:
    return any(0 in dims(part) for part in node.outputs)


@check("Pad in wrap mode: not known to be in the board's runtime")
def _wrap(node: ir.Node, target: Target) -> bool:
    return bool(attribute(node, "mode", "constant") == "wrap")


@check("Tile of a batch: the board's runtime has it for batch 1 only")
def _tile_batch(node: ir.Node, target: Target) -> bool:
    return len(dims(node.inputs[0])) >= 4 and dims(node.inputs[0])[0] != 1


@check("Slice of a batch with negative steps: the board's runtime has it for batch 1 only")
def _slice_batch(node: ir.Node, target: Target) -> bool:
    steps = constant(node, 4)
    return steps is not None and bool((steps < 0).any()) and dims(node.inputs[0])[:1] != (1,)


@check("Cast to an integer: what the NPU rounds to fp16 can be off by one")
def _to_integer(node: ir.Node, target: Target) -> bool:
    source, result = node.inputs[0], node.outputs[0]
    return source is not None and source.dtype in FLOAT and result.dtype in INDEX


@check("Cast to bool: no code for it in the compiler or the board's runtime")
def _to_bool(node: ir.Node, target: Target) -> bool:
    return node.outputs[0].dtype == ir.DataType.BOOL


@check("Cast to int64: no code for it in the compiler or the board's runtime")
def _to_int64(node: ir.Node, target: Target) -> bool:
    source = node.inputs[0]
    return node.outputs[0].dtype == ir.DataType.INT64 and source is not None and source.dtype != ir.DataType.INT64


@check("DepthToSpace and SpaceToDepth need four dimensions")
def _four(node: ir.Node, target: Target) -> bool:
    return len(dims(node.inputs[0])) != 4


@check("SpaceToDepth with a mode: newer than the toolkit's opset 19")
def _mode(node: ir.Node, target: Target) -> bool:
    return "mode" in node.attributes


# 13 bits of an NPU register. Seen for rk3588 only: [1, 64, 8192] to [1, 4, 16, 8192] and back overflow, the same to
# [1, 64, 1, 8192] or [1, 64, 2, 4096] do not. The compiler reports it and delivers all the same (users of boards report
# wrong results for such files). Not so before a Transpose and a Softmax: YOLOv8's box decoder is such a case.
WIDEST = 8191


@check(f"Reshape of rows longer than {WIDEST}: they do not fit the NPU's registers")
def _long_rows(node: ir.Node, target: Target) -> bool:
    before, after = ([size for size in dims(value) if size != 1] for value in (node.inputs[0], node.outputs[0]))
    if not target.long_reshapes_overflow or not before or not after or before == after:
        return False
    return before[-1] == after[-1] and after[-1] > WIDEST and not _into_softmax(node)


def _into_softmax(node: ir.Node) -> bool:
    """Whether a Softmax, behind a Transpose, is all that takes the node's result."""
    for expected in ("Transpose", "Softmax"):
        value = node.outputs[0]
        users = value.consumers()
        if value.is_graph_output() or len(users) != 1 or users[0].op_type != expected:
            return False
        node = users[0]
    return True


@check(f"Split of rows longer than {WIDEST + 1}: they do not fit the NPU's registers")
def _split_long_rows(node: ir.Node, target: Target) -> bool:
    # Seen for rk3576 and rk3566 behind YOLOv8's box decoder, [1, 4, 8400] in two; alone it is compiled in another way.
    # Parts of 8 channels, the unit of the NPU's layout, need no copy: [1, 144, 8400] in 64 and 80 is fine.
    shape = dims(node.inputs[0])
    axis = attribute(node, "axis", 0) % max(1, len(shape))
    if axis == len(shape) - 1 or shape[-1] <= WIDEST + 1:
        return False
    return any(dims(part)[axis] % 8 for part in node.outputs)


@check(f"Slice of rows longer than {WIDEST + 1}: they do not fit the NPU's registers")
def _slice_long_rows(node: ir.Node, target: Target) -> bool:
    # Seen for rk3588 in the same place of YOLOv8 and YOLO11 as exported: two Slices become one Split.
    shape, taken = dims(node.inputs[0]), dims(node.outputs[0])
    if len(shape) < 2 or shape[-1] != taken[-1] or shape[-1] <= WIDEST + 1:
        return False
    return any(whole != part and part % 8 for whole, part in zip(shape, taken, strict=True))


_RELABEL = Rule(inputs=(_ANY, INDEX), outputs=(_ANY,), constants=(1,))

RULES = {
    "Cast": Rule(inputs=(_ANY,), outputs=(_ANY,), checks=(_to_bool, _to_integer, _to_int64)),
    "Concat": Rule(),
    "DepthToSpace": Rule(checks=(_four,)),
    "Expand": Rule(inputs=_WITH_POSITIONS, constants=(1,)),
    "Flatten": _RELABEL,
    "Identity": _RELABEL,
    "Pad": Rule(inputs=(FLOAT, INDEX, FLOAT, INDEX), constants=(1, 2, 3), ranks=(1, 5), checks=(_wrap,)),
    "Reshape": Rule(inputs=(_ANY, INDEX), outputs=(_ANY,), constants=(1,), checks=(_long_rows,)),
    "Slice": Rule(inputs=_WITH_POSITIONS, constants=(1, 2, 3, 4), checks=(_slice_batch, _slice_long_rows)),
    "SpaceToDepth": Rule(checks=(_four, _mode)),
    "Split": Rule(inputs=_WITH_POSITIONS, constants=(1,), checks=(_empty_part, _split_long_rows)),
    "Squeeze": _RELABEL,
    "Tile": Rule(inputs=_WITH_POSITIONS, constants=(1,), ranks=(1, 4), checks=(_tile_batch,)),
    "Transpose": Rule(),
    "Unsqueeze": _RELABEL,
}
