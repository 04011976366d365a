"""Softsign, Selu, Celu, Mish, Swish, Gelu and Shrink by their definitions, in ops the compiler lowers or fuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.passes.base import FLOATS, Rewrite, Tape
from ort_rknn_converters.passes.idioms import gelu, swish

__all__ = ["Activations"]


def _softsign(node: ir.Node, x: ir.Value, tape: Tape) -> Any:
    return tape.op("Div", x, tape.op("Add", tape.like(x, 1), tape.op("Abs", x)))


def _selu(node: ir.Node, x: ir.Value, tape: Tape) -> Any:
    alpha = attribute(node, "alpha", 1.67326319217681884765625)
    gamma = attribute(node, "gamma", 1.05070102214813232421875)
    return tape.op("Mul", tape.op("Elu", x, alpha=alpha), tape.like(x, gamma))


def _celu(node: ir.Node, x: ir.Value, tape: Tape) -> Any:
    alpha = attribute(node, "alpha", 1.0)
    if alpha == 1:
        return tape.op("Elu", x, alpha=1.0)
    if alpha <= 0:
        return None
    return tape.op("Mul", tape.op("Elu", tape.op("Div", x, tape.like(x, alpha)), alpha=1.0), tape.like(x, alpha))


def _mish(node: ir.Node, x: ir.Value, tape: Tape) -> Any:
    return tape.op("Mul", x, tape.op("Tanh", tape.op("Softplus", x)))


def _swish(node: ir.Node, x: ir.Value, tape: Tape) -> Any:
    return swish(x, attribute(node, "alpha", 1.0), tape)


def _gelu(node: ir.Node, x: ir.Value, tape: Tape) -> Any:
    return gelu(x, tape, tanh=attribute(node, "approximate", "none") == "tanh")


def _shrink(node: ir.Node, x: ir.Value, tape: Tape) -> Any:
    bias, edge = attribute(node, "bias", 0.0), attribute(node, "lambd", 0.5)
    above = tape.op(
        "Where",
        tape.op("Greater", x, tape.like(x, edge)),
        tape.op("Sub", x, tape.like(x, bias)),
        tape.like(x, 0),
    )
    return tape.op("Where", tape.op("Less", x, tape.like(x, -edge)), tape.op("Add", x, tape.like(x, bias)), above)


_DEFINITIONS: dict[str, Callable[[ir.Node, ir.Value, Tape], Any]] = {
    "Softsign": _softsign,
    "Selu": _selu,
    "Celu": _celu,
    "Mish": _mish,
    "Swish": _swish,
    "Gelu": _gelu,
    "Shrink": _shrink,
}


class Activations(Rewrite):
    """Floats only, to a rounding or two of float32; NaN and infinities come out as from onnxruntime's own kernels.

    ``Celu`` divides by ``alpha`` first, so it overflows that much earlier; with ``alpha`` of 0 or less it stays. Gelu's
    tanh form cubes its input, as its definition does.
    """

    name = "activations"
    op_types = frozenset(_DEFINITIONS)
    says = "its definition"

    def rewrite(self, node: ir.Node, tape: Tape) -> Sequence[ir.Value | None] | None:
        """Integers stay with the CPU."""
        x = node.inputs[0]
        if x is None or x.dtype not in FLOATS:
            return None
        result = _DEFINITIONS[node.op_type](node, x, tape)
        return None if result is None else [result]
