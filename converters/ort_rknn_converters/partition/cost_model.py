"""What a segment would cost on the NPU and on the CPU, roughly: enough to leave islands alone that cannot pay.

The rule: a segment pays when ``cpu_seconds >= min_gain * npu_seconds``. ``npu_seconds`` is the fixed cost of a call,
plus the bytes that cross the edge over the transfer rate, plus the work over the NPU's rate. Every constant is a guess
or a number from a user's report, none was measured by us on a board; they err towards the NPU for real networks
(ResNet-50: 8 GFLOP, estimated 160 ms against 30 ms) and towards the CPU for crumbs.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.targets import Target
from ort_rknn_converters.util.frozen import frozen

__all__ = ["MOVES_ONLY", "Estimate", "estimate"]

# Fixed cost of one call: set inputs, submit, interrupt, get outputs. A guess between the 30-50 us that the vendor's
# Python spends on its own and the 1 ms users see for the smallest models.
_CALL_S = 0.3e-3
# Copy, layout change and fp16 conversion at the edge. From a user's report: 15 ms for a float image of 640x640x3 in
# Python, 0.33 GB/s; direct calls were seen several times faster. A guess in between.
_TRANSFER_BYTES_S = 1e9
# ONNX Runtime on the four large cores of an rk3588: from reports of 130-200 ms for ResNet-50's 8.2 GFLOP.
_CPU_FLOP_S = 50e9
# Elementwise work on the same cores is bound by memory. A guess.
_CPU_BYTES_S = 5e9
# Elementary functions (Exp, Erf, Tanh, ...) cost the CPU about this many plain operations. A guess.
_FUNCTION_FLOP = 20
# Inside the NPU elementwise work is bound by its memory. A guess.
_NPU_BYTES_S = 8e9

MOVES_ONLY = frozenset(
    {"Cast", "Concat", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice"}
    | {"SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
_FREE = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_FUNCTIONS = frozenset(
    {"Cos", "Elu", "Erf", "Exp", "HardSwish", "InstanceNormalization", "LayerNormalization", "Log", "LogSoftmax"}
    | {"LpNormalization", "Pow", "Sigmoid", "Sin", "Softmax", "Softplus", "Tanh"}
)


@frozen
class Estimate:
    """Seconds a segment would take on each side.

    Attributes:
        cpu_s: On ONNX Runtime.
        npu_s: On one NPU core, the call and the transfers included.
    """

    cpu_s: float
    npu_s: float

    @property
    def gain(self) -> float:
        """How many times faster the NPU is estimated to be."""
        return self.cpu_s / self.npu_s


def estimate(
    nodes: Iterable[ir.Node], entering: Iterable[ir.Value], leaving: Iterable[ir.Value], target: Target
) -> Estimate:
    """Estimate a segment.

    Args:
        nodes: Its nodes; their values have static shapes (an unknown dimension counts as 1).
        entering: The values that cross its edge inwards.
        leaving: The values that cross its edge outwards.
        target: The SoC.
    """
    cpu_s = npu_s = 0.0
    for node in nodes:
        flop, moved = flops(node), 0 if node.op_type in _FREE else _moved(node)
        cpu_s += max(flop / _CPU_FLOP_S, moved / _CPU_BYTES_S)
        npu_s += max(flop / target.npu_flop_s, moved / 2 / _NPU_BYTES_S)
    crossing = sum(_bytes(value) for value in (*entering, *leaving))
    return Estimate(cpu_s, npu_s + _CALL_S + crossing / _TRANSFER_BYTES_S)


def flops(node: ir.Node) -> float:
    """Floating-point operations of a node, a multiply-add counted as two."""
    out = _count(node.outputs[0])
    kind = node.op_type
    if kind in ("Conv", "ConvTranspose"):
        weights = _dims(node.inputs[1])
        over = out if kind == "Conv" else _count(node.inputs[0])
        # Conv weights are [M, C/group, ...], those of ConvTranspose [C, M/group, ...]: the same product either way.
        return 2.0 * over * prod(weights[1:])
    if kind in ("MatMul", "Gemm"):
        first = _dims(node.inputs[0])
        shared = first[0] if kind == "Gemm" and attribute(node, "transA", 0) else first[-1] if first else 1
        return 2.0 * out * shared
    if kind in ("AveragePool", "MaxPool"):
        return float(out * prod(attribute(node, "kernel_shape", (1,))))
    if kind.startswith(("Reduce", "Global", "Arg")):
        return float(_count(node.inputs[0]))
    if kind in MOVES_ONLY:
        return 0.0
    return float(out * (_FUNCTION_FLOP if kind in _FUNCTIONS else 1))


def _moved(node: ir.Node) -> int:
    values = {value for value in (*node.inputs, *node.outputs) if value is not None}
    if node.op_type == "Gather":
        # A table is not read whole.
        values.discard(node.inputs[0])
    return sum(_bytes(value) for value in values)


def _dims(value: ir.Value | None) -> tuple[int, ...]:
    if value is None or value.shape is None:
        return ()
    return tuple(dim if isinstance(dim, int) else 1 for dim in value.shape)


def _count(value: ir.Value | None) -> int:
    return prod(_dims(value))


def _bytes(value: ir.Value) -> int:
    return int(_count(value) * (value.dtype.itemsize if value.dtype is not None else 4))
