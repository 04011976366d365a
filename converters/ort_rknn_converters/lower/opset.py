"""Takes a segment down to the newest opset the toolkit accepts."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.nodes import attribute
from ort_rknn_converters.graph.op_schemas import carries_over

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
    stuck = [node for node in onnx_graph.walk(model.graph) if not node.domain and not _restamp(node, version)]
    if not stuck:
        model.opset_imports[""] = NEWEST
        return model
    try:
        converted = onnx.version_converter.convert_version(onnx_graph.to_proto(model), NEWEST)
    except (RuntimeError, ValueError) as error:
        names = ", ".join(sorted({node.op_type for node in stuck}))
        raise ModelError(f"{names} of opset {version} cannot be expressed in opset {NEWEST}") from error
    return onnx_graph.load(converted)


def _restamp(node: ir.Node, version: int) -> bool:
    """Whether ``node``, of a newer ``version``, means the same in opset 19, after dropping what says nothing new."""
    if node.op_type == "GridSample":
        mode = str(attribute(node, "mode", "linear"))
        node.attributes["mode"] = ir.AttrString("mode", _OLD_MODES.get(mode, mode))
        return True
    attributes = {name: attr.value for name, attr in node.attributes.items()}
    types = ["" if value is None else onnx_graph.type_string(value.type) for value in node.inputs]
    drop = carries_over(node.op_type, attributes, version, NEWEST, types)
    for name in drop or ():
        node.attributes.pop(name)
    return drop is not None
