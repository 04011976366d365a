"""Whether an op means the same in two versions of the standard, told from its schemas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import onnx
import onnx_ir as ir

__all__ = ["carries_over"]


def carries_over(
    op_type: str, attributes: Mapping[str, Any], written: int, wanted: int, types: Iterable[str] = ()
) -> frozenset[str] | None:
    """Tell whether a node can be stamped with another opset and still mean what it meant.

    Most changes of the standard's ops only add element types. The others show in the schemas: other inputs, outputs,
    attributes or defaults.

    Args:
        op_type: A standard op.
        attributes: Its attributes, as Python values.
        written: The opset it was written for.
        wanted: The opset it is to be read in.
        types: Types of its inputs, spelled as onnxruntime does (an empty string for one unknown or left out).

    Returns:
        Attributes to drop, which say nothing new but do not exist in ``wanted``; or ``None``: it does not carry over.
    """
    try:
        old, new = (onnx.defs.get_schema(op_type, version, "") for version in (written, wanted))
    except onnx.defs.SchemaError:
        return None
    if old.since_version == new.since_version:
        return frozenset()
    if _places(old.inputs) != _places(new.inputs) or _places(old.outputs) != _places(new.outputs):
        return None
    if not _types_known(types, new):
        return None

    before, after = ({name: _default(attr) for name, attr in schema.attributes.items()} for schema in (old, new))
    drop = frozenset(name for name in attributes if name not in after)
    if any(attributes[name] != before.get(name) for name in drop):
        return None
    unsaid = (before.keys() | after.keys()) - attributes.keys()
    if any(name in before and name in after and before[name] != after[name] for name in unsaid):
        return None
    return drop


def _types_known(types: Iterable[str], schema: onnx.defs.OpSchema) -> bool:
    """Whether ``schema`` takes inputs of these types; its last parameter may stand for many."""
    parameters: Any = schema.inputs
    for index, kind in enumerate(types):
        parameter = parameters[min(index, len(parameters) - 1)]
        if kind and parameter.types and kind not in parameter.types:
            return False
    return True


def _default(attr: Any) -> Any:
    proto = attr.default_value
    return None if proto.type == onnx.AttributeProto.UNDEFINED else ir.serde.deserialize_attribute(proto).value


def _places(parameters: Any) -> list[tuple[str, Any]]:
    return [(each.name, each.option) for each in parameters]
