"""Op rules: element types and ranks as data, the rest as small predicates that answer in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import operand
from ort_rknn_converters.targets import Target
from ort_rknn_converters.util.frozen import frozen

__all__ = [
    "BOOL",
    "BOUNDARY",
    "FLOAT",
    "INDEX",
    "NUMBER",
    "Check",
    "Rule",
    "Types",
    "check",
    "constant",
    "dims",
    "is_constant",
    "type_name",
]

Types = frozenset[ir.DataType]
Check = Callable[[ir.Node, Target], "str | None"]

FLOAT: Types = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})
INDEX: Types = frozenset({ir.DataType.INT32, ir.DataType.INT64})
BOOL: Types = frozenset({ir.DataType.BOOL})
NUMBER: Types = FLOAT | INDEX

# What may cross a segment's edge: seen to build and to run in the vendor's simulator (uint8 aborts the compiler, int8
# segfaults it, the other integers are refused or abort, float64 arrays are refused by the runtime).
BOUNDARY: Types = FLOAT | INDEX | BOOL

_TYPE_TROUBLE: dict[ir.DataType, str] = {
    ir.DataType.UINT8: "uint8 aborts the compiler",
    ir.DataType.INT8: "int8 outside a quantized model crashes the compiler",
    ir.DataType.DOUBLE: "float64: the NPU computes in fp16",
    ir.DataType.STRING: "strings",
}
_FAR_TOO_LARGE = 1 << 20  # elements of a constant, for rules that look into small ones (a guess)


@frozen
class Rule:
    """Rule of one op: what the NPU, or the documented CPU list of its runtime, can do of it.

    Attributes:
        inputs: Element types allowed for each input; the last entry serves all further inputs.
        outputs: The same for the outputs.
        constants: Positions of inputs that must be constants when they are there.
        ranks: Smallest and largest rank of the first input.
        checks: Predicates over the node; each answers ``None`` or the reason why not.
    """

    inputs: tuple[Types, ...] = (FLOAT,)
    outputs: tuple[Types, ...] = (FLOAT,)
    constants: tuple[int, ...] = ()
    ranks: tuple[int, int] = (0, 6)
    checks: tuple[Check, ...] = ()

    def decide(self, node: ir.Node, target: Target) -> str | None:
        """``None`` when the NPU may have the node, else the reason in words."""
        return (
            _types(node, "input", node.inputs, self.inputs)
            or _types(node, "output", node.outputs, self.outputs)
            or self._constants(node)
            or self._rank(node)
            or next((reason for one in self.checks if (reason := one(node, target))), None)
        )

    def _constants(self, node: ir.Node) -> str | None:
        for position in self.constants:
            value = operand(node, position)
            if value is not None and not is_constant(value):
                return f"{node.op_type}: input {position} must be a constant"
        return None

    def _rank(self, node: ir.Node) -> str | None:
        low, high = self.ranks
        for value in (*node.inputs[:1], *node.outputs[:1]):
            rank = len(dims(value)) if value is not None else low
            if rank > high:
                return f"{node.op_type} of rank {rank}"
        first = node.inputs[0] if node.inputs else None
        if first is not None and len(dims(first)) < low:
            return f"{node.op_type} of rank {len(dims(first))}"
        return None


def check(reason: str) -> Callable[[Callable[[ir.Node, Target], bool]], Check]:
    """Decorator: a predicate that is true when the node must stay on the CPU becomes a check with that ``reason``."""

    def decorate(predicate: Callable[[ir.Node, Target], bool]) -> Check:
        def decided(node: ir.Node, target: Target) -> str | None:
            return reason if predicate(node, target) else None

        decided.__doc__ = predicate.__doc__
        return decided

    return decorate


def dims(value: ir.Value | None) -> tuple[int, ...]:
    """The static shape; only meaningful where :func:`decide` has seen that it is one."""
    if value is None or value.shape is None:
        return ()
    return tuple(dim if isinstance(dim, int) else -1 for dim in value.shape)


def is_constant(value: ir.Value) -> bool:
    """Whether the value is an initializer that no caller can override."""
    return onnx_graph.constant(value) is not None


def constant(node: ir.Node, position: int) -> np.ndarray[Any, Any] | None:
    """The small constant at an input, or ``None`` when it is absent, empty, large or computed at run time."""
    tensor = onnx_graph.constant(operand(node, position))
    return None if tensor is None or tensor.size > _FAR_TOO_LARGE else np.asarray(tensor.numpy())


def type_name(dtype: ir.DataType) -> str:
    """The name users know: ``float32`` rather than ``FLOAT``."""
    names: Mapping[ir.DataType, str] = {ir.DataType.FLOAT: "float32", ir.DataType.DOUBLE: "float64"}
    return names.get(dtype, dtype.name.lower())


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"


def _types(node: ir.Node, kind: str, values: Any, allowed: tuple[Types, ...]) -> str | None:
    for position, value in enumerate(values):
        if value is None or (kind == "output" and not value.name):
            continue
        if value.dtype not in allowed[min(position, len(allowed) - 1)]:
            if value.dtype in _TYPE_TROUBLE:
                return _TYPE_TROUBLE[value.dtype]
            if value.dtype in INDEX:
                return f"{node.op_type} of integers: exact only to 2048 in fp16"
            return f"{node.op_type} with {_a(type_name(value.dtype))} {kind}: not a type the NPU takes there"
    return None
