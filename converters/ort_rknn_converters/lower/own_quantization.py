"""Other forms of a part that brings its own quantization: fewer roundings to int8, or none.

The pairs of QuantizeLinear and DequantizeLinear say where values are rounded. The toolkit takes them for int8 code, and
crashes on some (seen with 2.5.0 and transformers from onnxruntime's quantizer: a GELU whose steps are all rounded,
attention without a mask). Without those pairs the same is computed in fp16, which rounds less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx

__all__ = ["around_products", "in_floats", "is_quantized", "without_fatal_pairs"]

Keep = Callable[["onnx.NodeProto | None", Sequence[onnx.NodeProto]], bool]

_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_MOVES = frozenset(
    {"AveragePool", "Concat", "Flatten", "Gather", "GlobalAveragePool", "MaxPool", "Pad", "Reshape", "Resize", "Slice"}
    | {"Split", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Between two products these keep what they get in int8."""


def is_quantized(part: onnx.ModelProto) -> bool:
    """Whether values are rounded to int8 in a part, by its own nodes."""
    return any(node.op_type == "QuantizeLinear" for node in part.graph.node)


def without_fatal_pairs(part: onnx.ModelProto) -> onnx.ModelProto | None:
    """Leaves out the roundings that the toolkit is known to crash on: within a GELU, and after attention's Softmax.

    A GELU by Erf whose every step is rounded ends in SIGFPE, attention in SIGSEGV; either compiles when one of these is
    left out. What is rounded before the Softmax stays so: the step there, large as a mask is, is part of the answer.

    Takes and returns what :func:`around_products` does.
    """
    edges = _Edges(part.graph)

    def keep(maker: onnx.NodeProto | None, readers: Sequence[onnx.NodeProto]) -> bool:
        if maker is None or len(readers) != 1:
            return True
        if maker.op_type == "Softmax":
            return readers[0].op_type != "MatMul"
        return not (readers[0].op_type in ("Add", "Mul") and edges.within_gelu(maker))

    return _without_pairs(part, keep)


def around_products(part: onnx.ModelProto) -> onnx.ModelProto | None:
    """Rounds to int8 only what goes into products and moves, or comes out of them.

    A constant that is added to a product belongs to it: the toolkit makes it the bias, and crashes where the sum is not
    rounded.

    Args:
        part: A standalone model; left as it is.

    Returns:
        The other form, ``None`` where it is the same.
    """
    edges = _Edges(part.graph)

    def keep(maker: onnx.NodeProto | None, readers: Sequence[onnx.NodeProto]) -> bool:
        whole = maker is not None and (_is_kept(maker) or edges.adds_bias(maker))
        return whole or any(map(_is_kept, readers))

    return _without_pairs(part, keep)


def in_floats(part: onnx.ModelProto) -> onnx.ModelProto | None:
    """Rounds nothing; weights are stored as they were.

    Takes and returns what :func:`around_products` does.
    """
    return _without_pairs(part, lambda maker, readers: False)


def _is_kept(node: onnx.NodeProto) -> bool:
    return node.op_type in _PRODUCTS or node.op_type in _MOVES


class _Edges:
    """Makers and readers of values, by name."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        self._constants = {tensor.name for tensor in graph.initializer}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def maker(self, name: str) -> onnx.NodeProto | None:
        return self._makers.get(name)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        return self._readers.get(name, [])

    def adds_bias(self, node: onnx.NodeProto) -> bool:
        if node.op_type != "Add":
            return False
        sources = [self._behind_pair(name) for name in node.input]
        products = [one for one in sources if isinstance(one, onnx.NodeProto) and one.op_type in _PRODUCTS]
        return len(products) == 1 and any(isinstance(one, str) and one in self._constants for one in sources)

    def within_gelu(self, node: onnx.NodeProto) -> bool:
        """Whether a node is the Erf of a GELU, or one of the steps that follow."""
        steps = ("Mul", "Add", "Erf")
        if node.op_type not in steps:
            return False
        later = steps.index(node.op_type) + 1
        sources = [self._behind_pair(name) for name in node.input]
        return later == len(steps) or any(
            isinstance(one, onnx.NodeProto) and one.op_type in steps[later:] and self.within_gelu(one)
            for one in sources
        )

    def _behind_pair(self, name: str) -> Any:
        """The node that makes a value, before it was rounded; the value's name where none does."""
        back = self._makers.get(name)
        if back is None or back.op_type != "DequantizeLinear":
            return back or name
        there = self._makers.get(back.input[0])
        if there is None or there.op_type != "QuantizeLinear":
            return there or back.input[0]
        return self._makers.get(there.input[0]) or there.input[0]


def _without_pairs(part: onnx.ModelProto, keep: Keep) -> onnx.ModelProto | None:
    """The part without those pairs that need not be kept by what makes their value, and what reads it."""
    model = onnx.ModelProto()
    model.CopyFrom(part)
    graph, edges = model.graph, _Edges(model.graph)
    given = {value.name for value in graph.output}
    instead: dict[str, str] = {}
    renamed: dict[str, str] = {}
    gone: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or node.output[0] in given:
            continue
        back = edges.readers(node.output[0])
        if any(one.op_type != "DequantizeLinear" for one in back):
            continue
        if keep(edges.maker(node.input[0]), [reader for one in back for reader in edges.readers(one.output[0])]):
            continue
        free = [one for one in back if one.output[0] not in given]
        outputs = [one for one in back if one.output[0] in given]
        if len(outputs) == 1 and edges.maker(node.input[0]) is not None and node.input[0] not in given:
            renamed[node.input[0]] = outputs[0].output[0]
            free += outputs
        instead.update({one.output[0]: node.input[0] for one in free if one.output[0] not in given})
        gone += free
        if len(free) == len(back):
            gone.append(node)
    if not gone:
        return None
    out = {id(node) for node in gone}
    kept = [node for node in graph.node if id(node) not in out]
    for node in kept:
        for place, name in enumerate(node.input):
            while name in instead:
                name = instead[name]
            node.input[place] = renamed.get(name, name)
        for place, name in enumerate(node.output):
            node.output[place] = renamed.get(name, name)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)
    return model
