"""Takes a segment down to the newest opset the toolkit accepts."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir

from ort_rknn_converters import graph as graphs
from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.passes.base import attribute

__all__ = ["NEWEST", "lower_opset"]

NEWEST = 19
"""The newest opset rknn-toolkit2 2.5.0 loads (measured)."""

_OLD_MODES = {"linear": "bilinear", "cubic": "bicubic"}


def lower_opset(model: ir.Model) -> ir.Model:
    """The model in opset 19 or older, changed in place where that is possible.

    Most ops only learnt more element types since: they are re-stamped, which the schemas of both versions show to be
    right. Attributes that are new are dropped where they say nothing new. What is left goes to onnx's own converter.

    Raises:
        ModelError: An op stands in the way; the message names it.
    """
    version = model.opset_imports.get("", 1)
    if version <= NEWEST:
        return model
    stuck = [node for node in graphs.walk(model.graph) if not node.domain and not _restamp(node, version)]
    if not stuck:
        model.opset_imports[""] = NEWEST
        return model
    try:
        converted = onnx.version_converter.convert_version(graphs.to_proto(model), NEWEST)
    except (RuntimeError, ValueError) as error:
        names = ", ".join(sorted({node.op_type for node in stuck}))
        raise ModelError(f"{names} of opset {version} cannot be expressed in opset {NEWEST}") from error
    return graphs.load(converted)


def _restamp(node: ir.Node, version: int) -> bool:
    """Whether ``node`` means the same in opset 19, after dropping what says nothing new."""
    schema = onnx.defs.get_schema(node.op_type, version, "")
    if schema.since_version <= NEWEST:
        return True
    try:
        old = onnx.defs.get_schema(node.op_type, NEWEST, "")
    except onnx.defs.SchemaError:
        return False

    if node.op_type == "GridSample":
        mode = str(attribute(node, "mode", "linear"))
        node.attributes["mode"] = ir.AttrString("mode", _OLD_MODES.get(mode, mode))
        return True
    known = {name: _default(attr) for name, attr in old.attributes.items()}
    for name, attr in schema.attributes.items():
        if name not in known:
            if name in node.attributes and attribute(node, name) != _default(attr):
                return False
            node.attributes.pop(name, None)
        elif known[name] != _default(attr) and name not in node.attributes:
            return False
    if any(name not in known for name in node.attributes):
        return False
    same = _places(old.inputs) == _places(schema.inputs) and _places(old.outputs) == _places(schema.outputs)
    return same and _types_known(node, old)


def _types_known(node: ir.Node, old: onnx.defs.OpSchema) -> bool:
    """Whether the older version takes the types of this node's inputs; the last parameter may stand for many."""
    parameters: Any = old.inputs
    for index, value in enumerate(node.inputs):
        if value is None or value.type is None:
            continue
        parameter = parameters[min(index, len(parameters) - 1)]
        if parameter.types and graphs.type_string(value.type) not in parameter.types:
            return False
    return True


def _default(attr: Any) -> Any:
    proto = attr.default_value
    return None if proto.type == onnx.AttributeProto.UNDEFINED else ir.serde.deserialize_attribute(proto).value


def _places(parameters: Any) -> list[tuple[str, Any]]:
    return [(each.name, each.option) for each in parameters]
