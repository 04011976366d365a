"""Builds ONNX models for tests: from nodes, or from ONNX's own text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

__all__ = ["OPSET", "build", "parsed"]

OPSET = 18


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Any],
    outputs: Sequence[str] | Mapping[str, Any],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = OPSET,
    domains: Sequence[str] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    ir_version: int = 10,
    name: str = "graph",
) -> onnx.ModelProto:
    """A model.

    Args:
        nodes: Its nodes.
        inputs: Name -> an array (for its type and shape) or (ONNX type, dims).
        outputs: Names, or name -> an array or (ONNX type, dims).
        constants: Initializers.
        opset: Version of the standard's ops.
        domains: Other op sets, at version 1.
        functions: Model-local functions.
        ir_version: Of the file.
        name: The graph's.
    """
    declared = outputs if isinstance(outputs, Mapping) else dict.fromkeys(outputs)
    proto = helper.make_graph(
        list(nodes),
        name,
        [_info(value, kind) for value, kind in inputs.items()],
        [_info(value, kind) for value, kind in declared.items()],
        [numpy_helper.from_array(array, constant) for constant, array in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(proto, opset_imports=imports, ir_version=ir_version, functions=list(functions))


def parsed(
    body: str, inputs: str, outputs: str, constants: Mapping[str, np.ndarray] | None = None, *, opset: int = 17
) -> onnx.ModelProto:
    """A model from text: ``parsed("y = Relu (x)", "float[1,4] x", "float[1,4] y")``.

    Args:
        body: Nodes in ONNX's text form.
        inputs: Types and names, separated by commas.
        outputs: Types and names, separated by commas.
        constants: Initializers.
        opset: Version of the standard's ops.
    """
    graph = parse_graph(f"g ({inputs}) => ({outputs}) {{ {body} }}")
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in (constants or {}).items())
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _info(name: str, kind: Any) -> onnx.ValueInfoProto:
    if kind is None:
        return onnx.ValueInfoProto(name=name)
    if isinstance(kind, np.ndarray):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(kind.dtype), kind.shape)
    if isinstance(kind, onnx.TypeProto):
        return helper.make_value_info(name, kind)
    return helper.make_tensor_value_info(name, kind[0], kind[1])
