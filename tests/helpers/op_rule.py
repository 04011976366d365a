"""One ONNX node with typed, shaped values around it: what an op rule is asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.op_support.decide import decide
from ort_rknn_converters.targets import find_target

Dims = Sequence[int | str]
Tensor = tuple[str, Dims] | np.ndarray | None

_TYPES: Mapping[str, ir.DataType] = {
    "float": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "double": ir.DataType.DOUBLE,
    "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64,
    "int8": ir.DataType.INT8,
    "uint8": ir.DataType.UINT8,
    "bool": ir.DataType.BOOL,
    "string": ir.DataType.STRING,
}


def value(name: str, spec: Tensor) -> ir.Value | None:
    """A value: ``("float", [1, 3])`` computed at run time, an array for a constant, ``None`` for an absent input."""
    if spec is None:
        return None
    if isinstance(spec, np.ndarray):
        tensor = ir.tensor(spec, name=name)
        return ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(spec.shape), const_value=tensor)
    kind, dims = spec
    return ir.Value(name=name, type=ir.TensorType(_TYPES[kind]), shape=ir.Shape(list(dims)))


def node(op: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], domain: str = "", **attributes: Any) -> ir.Node:
    """The node, in a graph whose outputs are the node's."""
    values = [value(f"x{index}", spec) for index, spec in enumerate(inputs)]
    results = [one for index, spec in enumerate(outputs) if (one := value(f"y{index}", spec)) is not None]
    made = ir.Node(
        domain, op, values, outputs=results, name="node", attributes=ir.convenience.convert_attributes(attributes)
    )
    constants = [one for one in values if one is not None and one.const_value is not None]
    fed = [one for one in values if one is not None and one.const_value is None]
    ir.Graph(fed, results, nodes=[made], initializers=constants, opset_imports={"": 19}, name="one")
    return made


def reason(
    op: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    target: str = "rk3588",
    domain: str = "",
    **attributes: Any,
) -> str | None:
    """What the tables answer for this node."""
    return decide(node(op, inputs, outputs, domain, **attributes), find_target(target))


def ints(*numbers: int) -> np.ndarray:
    """A constant int64 vector."""
    return np.array(numbers, np.int64)


def floats(*dims: int) -> np.ndarray:
    """A constant float32 tensor."""
    return np.full(dims, 0.5, np.float32)
