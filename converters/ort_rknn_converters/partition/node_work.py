"""The work of each node, as the compiler would leave it: operations, values moved, and what is fused away.

rknn-toolkit2 fuses activations, biases and scales into the operator before them; what is fused costs no layer of its
own. The fusing is followed only as far as it decides costs: pointwise nodes with a constant, Relu and Clip after
another node, and ``x * Sigmoid(x)`` as one layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.util.frozen import frozen

__all__ = ["FREE", "MOVES_ONLY", "NodeWork", "flops", "node_works", "value_bytes"]

MOVES_ONLY = frozenset(
    {"Cast", "Concat", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice"}
    | {"SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
FREE = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Change no byte; layer tables of boards show 0.001 ms."""

_FUNCTIONS = frozenset(
    {"Cos", "Elu", "Erf", "Exp", "HardSwish", "InstanceNormalization", "LayerNormalization", "Log", "LogSoftmax"}
    | {"LpNormalization", "Pow", "Sigmoid", "Sin", "Softmax", "Softplus", "Tanh"}
)
# Elementary functions (Exp, Erf, Tanh, ...) cost the CPU about this many plain operations. A guess.
_FUNCTION_FLOP = 20
_FUSED_ALWAYS = frozenset({"Clip", "LeakyRelu", "PRelu", "Relu"})
_FUSED_WITH_CONSTANT = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"})
_CONVS = frozenset({"Conv", "ConvTranspose"})
_MATMULS = frozenset({"Gemm", "MatMul"})
_RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1}
_QUANTIZE = frozenset({"DequantizeLinear", "QuantizeLinear"})
# The NPU computes whole groups of channels; of its documented atoms (32 bytes in, 32 kernels out) as wide as seen.
_CHANNELS = 32
_FIRST_LAYER = 4
"""Channels of an image: the first layer has a mode of its own for up to four."""
_CACHED = 1 << 19
"""Bytes of a weight that several nodes share and that stays in the CPU's cache from one to the next, so that it comes
from memory once. A guess: RK3566 has 512 KB of it, RK3588 3 MB."""


@frozen
class NodeWork:
    """One node in numbers.

    Attributes:
        op_type: Of the node.
        kind: ``conv``, ``depthwise``, ``matmul``, ``elementwise``, ``softmax``, ``norm`` ... of the cost tables;
            ``fused`` for what costs no layer of its own.
        flop: Operations on the CPU, a multiply-add counted as two.
        npu_flop: Operations of the NPU, whole groups of channels counted.
        values: Elements of its activations, in and out.
        weights: Elements of its constants. Those that nodes share are stored once, and read by each layer: the NPU's
            buffer is too small to keep them.
        cpu_bytes: Bytes that the CPU moves for it, without small weights that an earlier node has read.
        int8: Whether the graph itself says that it computes on 8-bit values.
    """

    op_type: str
    kind: str
    flop: float
    npu_flop: float
    values: int
    weights: int
    cpu_bytes: int
    int8: bool


def node_works(nodes: Iterable[ir.Node]) -> Iterator[NodeWork]:
    """Gives the work of nodes whose values have static shapes (an unknown dimension counts as 1)."""
    cached: set[ir.Value] = set()
    for node in nodes:
        kind = _kind(node)
        read = [value for value in dict.fromkeys(node.inputs) if value is not None]
        if node.op_type == "Gather":  # a table is not read whole
            read = read[1:]
        constants = [value for value in read if value.const_value is not None]
        moving = [value for value in read if value.const_value is None] + list(node.outputs)
        fetched = [value for value in constants if value not in cached]
        cached.update(value for value in fetched if value_bytes(value) <= _CACHED)
        yield NodeWork(
            node.op_type,
            kind,
            flops(node),
            _npu_flops(node) if kind in ("conv", "depthwise", "matmul") else 0.0,
            sum(_count(value) for value in moving),
            sum(_count(value) for value in constants),
            0 if node.op_type in FREE else sum(value_bytes(value) for value in (*fetched, *moving)),
            any(value is not None and _quantized(value) for value in node.inputs),
        )


def flops(node: ir.Node) -> float:
    """Counts floating-point operations of a node, a multiply-add counted as two."""
    out = _count(node.outputs[0])
    kind = node.op_type
    if kind in _CONVS:
        weights = _dims(node.inputs[1])
        over = out if kind == "Conv" else _count(node.inputs[0])
        # Conv weights are [M, C/group, ...], those of ConvTranspose [C, M/group, ...]: the same product either way.
        return 2.0 * over * prod(weights[1:])
    if kind in _MATMULS:
        return 2.0 * out * _shared(node)
    if kind in _RECURRENT:
        steps, batch, width = (*_dims(node.inputs[0]), 1, 1, 1)[:3]
        hidden = attribute(node, "hidden_size", 1)
        both = 2 if attribute(node, "direction", "forward") == "bidirectional" else 1
        return float(2 * both * steps * batch * _RECURRENT[kind] * hidden * (width + hidden))
    if kind in ("AveragePool", "MaxPool"):
        return float(out * prod(attribute(node, "kernel_shape", (1,))))
    if kind.startswith(("Reduce", "Global", "Arg")):
        return float(_count(node.inputs[0]))
    if kind in MOVES_ONLY:
        return 0.0
    return float(out * (_FUNCTION_FLOP if kind in _FUNCTIONS else 1))


def value_bytes(value: ir.Value) -> int:
    """Counts the bytes of a value in ONNX Runtime."""
    dtype = value.dtype
    known = dtype is not None and dtype not in (ir.DataType.STRING, ir.DataType.UNDEFINED)
    return int(_count(value) * (dtype.itemsize if dtype is not None and known else 4))


def _kind(node: ir.Node) -> str:
    op = node.op_type
    if op in FREE or op in _QUANTIZE or _is_fused(node):
        return "fused"
    if op in _CONVS:
        groups = attribute(node, "group", 1)
        return "depthwise" if groups > 1 and groups == _dims(node.inputs[0])[1:2][0] else "conv"
    if op in _MATMULS:
        return "matmul"
    if op in ("Softmax", "LogSoftmax"):
        return "softmax"
    if op.endswith("Normalization") and op != "BatchNormalization":
        return "norm"
    if op.startswith(("Reduce", "Arg")):
        return "reduce"
    if op.endswith("Pool"):
        return "pool"
    if op in ("Transpose", "Resize", "Pad", "Gather"):
        return op.lower()
    return "activation" if op in _FUNCTIONS or (op == "Mul" and _is_swish(node)) else "elementwise"


def _is_fused(node: ir.Node) -> bool:
    """Whether the node goes into the one before it (or, Sigmoid of ``x * Sigmoid(x)``, into the one behind)."""
    op = node.op_type
    if op == "Sigmoid":
        readers = [use.node for use in node.outputs[0].uses()]
        return len(readers) == 1 and readers[0].op_type == "Mul" and node.inputs[0] in readers[0].inputs
    if op == "BatchNormalization" or op in _FUSED_ALWAYS:
        return _made_here(node.inputs[0])
    if op in _FUSED_WITH_CONSTANT:
        live = [value for value in node.inputs if value is not None and value.const_value is None]
        return len(live) == 1 and _made_here(live[0])
    return False


def _made_here(value: ir.Value | None) -> bool:
    """Whether the value is another node's, read by nobody else."""
    return value is not None and value.producer() is not None and len(value.uses()) == 1


def _is_swish(node: ir.Node) -> bool:
    makers = [value.producer() for value in node.inputs if value is not None]
    return any(maker is not None and maker.op_type == "Sigmoid" and maker.inputs[0] in node.inputs for maker in makers)


def _npu_flops(node: ir.Node) -> float:
    if node.op_type in _MATMULS:
        return flops(node)
    weights, groups = _dims(node.inputs[1]), attribute(node, "group", 1)
    if len(weights) < 2:
        return flops(node)
    if node.op_type == "Conv":
        made, taken = weights[0] // max(groups, 1), weights[1]
    else:
        taken, made = weights[0] // max(groups, 1), weights[1]
    whole = _FIRST_LAYER if taken <= _FIRST_LAYER else _up(taken)
    return float(flops(node) * whole * _up(made) / max(taken * made, 1))


def _up(channels: int) -> int:
    return -(-channels // _CHANNELS) * _CHANNELS


def _shared(node: ir.Node) -> int:
    first = _dims(node.inputs[0])
    if node.op_type == "Gemm" and attribute(node, "transA", 0):
        return first[0]
    return first[-1] if first else 1


def _quantized(value: ir.Value) -> bool:
    maker = value.producer()
    return maker is not None and maker.op_type == "DequantizeLinear"


def _dims(value: ir.Value | None) -> tuple[int, ...]:
    if value is None or value.shape is None:
        return ()
    return tuple(dim if isinstance(dim, int) else 1 for dim in value.shape)


def _count(value: ir.Value | None) -> int:
    return prod(_dims(value))
