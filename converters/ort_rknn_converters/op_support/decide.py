"""Decides which ONNX nodes an RKNPU can have: one table of rules an op family, one question, an answer in words.

The policy: what the compiler puts on the NPU, or on the board's CPU by an op of the vendor's documented list, is
accepted; all else stays with ONNX Runtime, and the reason is said. The tables come from compiling every case of the
ONNX standard's backend tests with rknn-toolkit2 2.5.0 and from the vendor's documents of 2.3.2; nothing in them was
seen on a board. They only propose: a segment that does not compile or does not verify is taken apart later.
"""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.op_support.families import (
    activation,
    conv,
    elementwise,
    gather,
    logic,
    matmul,
    norm,
    pool,
    quantized,
    reduce,
    resize,
    shape,
)
from ort_rknn_converters.op_support.families.rule import BOUNDARY, Rule, is_constant, type_name
from ort_rknn_converters.op_support.fp16_range import REASON as OUT_OF_RANGE
from ort_rknn_converters.op_support.fp16_range import out_of_range, way_to_softmax
from ort_rknn_converters.op_support.unsupported import REFUSED
from ort_rknn_converters.targets import Target

__all__ = ["BOUNDARY", "DYNAMIC", "REFUSED", "RULES", "Rule", "boundary_reason", "decide"]

DYNAMIC = "dynamic shape"

_FAMILIES = (activation, conv, elementwise, gather, logic, matmul, norm, pool, quantized, reduce, resize, shape)

RULES: dict[str, Rule] = {op: rule for family in _FAMILIES for op, rule in family.RULES.items()}

# What is proposed for a small NPU (see Target.small_npu).
_SMALL_OPS: frozenset[str] = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "Div", "Flatten", "Gemm"}
    | {"GlobalAveragePool", "HardSigmoid", "HardSwish", "LeakyRelu", "MatMul", "MaxPool", "Mul", "PRelu", "Pad"}
    | {"Relu", "Reshape", "Resize", "Sigmoid", "Softmax", "Split", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze"}
)

# On SoCs with a largest rank the compiler reshapes and transposes windows of images of six dimensions without trouble.
_DEEP_OPS = frozenset({"Reshape", "Squeeze", "Transpose", "Unsqueeze"})

# Seen for rk3588, whatever the op that computes: 17 to 23 rows of 4096 overflow a register, 16, 24 and 33 do not; so do
# 35 rows of 2048 and 67 or 71 of 1024, but not 80 of 1024, 20 of 4095 or 4608, or [2, 10, 4096].
_RELABELS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_WIDE_ROWS, _FULL = frozenset({1024, 2048, 4096}), 1 << 16


def decide(node: ir.Node, target: Target) -> str | None:
    """Say whether the NPU may have this node.

    Args:
        node: A node of a prepared graph: its inputs and outputs carry types and static shapes as far as known.
        target: The SoC.

    Returns:
        ``None`` when it may, else the reason why not, in words a user reads in the plan.
    """
    if node.domain not in ("", "ai.onnx"):
        return f"{node.domain}.{node.op_type}: not an op of the ONNX standard"
    if node.op_type in REFUSED:
        reason = REFUSED[node.op_type]
        return reason if reason in ("control flow", "recurrent", "random") else f"{node.op_type}: {reason}"
    rule = RULES.get(node.op_type)
    if rule is None:
        return f"{node.op_type}: the compiler has no lowering"
    if target.small_npu and node.op_type not in _SMALL_OPS:
        return f"{node.op_type}: not known to run on {target.name}"
    return _values(node) or rule.decide(node, target) or _deep(node, target) or _rows(node, target) or _range(node)


def _values(node: ir.Node) -> str | None:
    """Checks what every op needs: typed, static, non-empty tensors, one of them computed at run time."""
    inputs = [value for value in node.inputs if value is not None]
    outputs = [value for value in node.outputs if value.name]
    for value in (*inputs, *outputs):
        if value.type is not None and not isinstance(value.type, ir.TensorType):
            return f"{node.op_type}: sequences, optionals and sparse tensors"
        if value.dtype is None:
            return "unknown type"
        if value.shape is None:
            return "unknown shape"
        if not value.shape.is_static():
            return DYNAMIC
    # An empty constant may stand for an absent parameter (the scales of Resize).
    for value in (*(one for one in inputs if not is_constant(one)), *outputs):
        if 0 in (value.shape or ()):
            return "a dimension of size zero"
    if all(is_constant(value) for value in inputs) and node.op_type != "DequantizeLinear":
        return f"{node.op_type}: nothing to compute, its inputs are constants"
    return None


def _deep(node: ir.Node, target: Target) -> str | None:
    if target.max_rank is None or node.op_type in _DEEP_OPS:
        return None
    rank = max(len(value.shape or ()) for value in (*node.inputs, *node.outputs) if value is not None)
    return f"{node.op_type} of rank {rank} crashes the compiler for {target.name}" if rank > target.max_rank else None


def _rows(node: ir.Node, target: Target) -> str | None:
    if not target.long_reshapes_overflow or node.op_type in _RELABELS:
        return None
    for value in (*node.inputs, *node.outputs):
        shape = onnx_graph.static_shape(value)
        if value is None or is_constant(value) or not shape or shape[-1] not in _WIDE_ROWS:
            continue
        counts = [size for size in shape[:-1] if size != 1]
        if len(counts) == 1 and _FULL // shape[-1] < counts[0] < _FULL // shape[-1] + 8:
            return f"{counts[0]} rows of {shape[-1]} do not fit the NPU's registers"
    return None


def _range(node: ir.Node) -> str | None:
    return OUT_OF_RANGE if out_of_range(node) and way_to_softmax(node) is None else None


def boundary_reason(value: ir.Value) -> str | None:
    """Reason why a value cannot cross a segment's edge, or ``None``."""
    if value.dtype is None or value.dtype in BOUNDARY:
        return None
    return f"{type_name(value.dtype)} cannot go in or out of NPU code"
