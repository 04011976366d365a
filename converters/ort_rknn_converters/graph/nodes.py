"""The few facts about nodes everybody asks for: attributes, operands, the bodies inside, whether a result is used."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

__all__ = ["attribute", "bodies", "is_used", "operand", "operands", "take_over"]


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """Value of an attribute as a Python value (strings decoded), or ``default`` when it is not set."""
    found = node.attributes.get(name)
    return default if found is None or found.is_ref() else found.value


def operand(node: ir.Node, position: int) -> ir.Value | None:
    """The input at a position; ``None`` when it is left out, whether at the end or in the middle."""
    return node.inputs[position] if position < len(node.inputs) else None


def operands(node: ir.Node, count: int) -> list[ir.Value | None]:
    """The first ``count`` inputs, ``None`` for each that is left out."""
    return [operand(node, position) for position in range(count)]


def bodies(node: ir.Node) -> list[ir.Graph]:
    """The graphs that are attributes of the node, as those of ``If``, ``Loop`` and ``Scan``."""
    found: list[ir.Graph] = []
    for attr in node.attributes.values():
        if attr.is_ref():
            continue
        if attr.type == ir.AttributeType.GRAPH:
            found.append(attr.as_graph())
        elif attr.type == ir.AttributeType.GRAPHS:
            found.extend(attr.as_graphs())
    return found


def is_used(value: ir.Value) -> bool:
    """Whether a node reads the value, or the caller gets it."""
    return bool(value.uses()) or value.is_graph_output()


def take_over(was: ir.Value, new: ir.Value) -> None:
    """Give ``new`` the name, type and documentation of ``was``, and its shape where that says more.

    ``was`` has no name afterwards; its uses stay.
    """
    name, was.name = was.name, None
    new.name = name
    new.type = was.type if was.type is not None else new.type
    if was.shape is not None and (new.shape is None or _says_less(new.shape, was.shape)):
        new.shape = was.shape
    new.doc_string = was.doc_string
    new.metadata_props.update(was.metadata_props)


def _says_less(shape: ir.Shape, declared: ir.Shape) -> bool:
    """Whether ``declared``, which may name dimensions, has no fewer numbers than a shape that is not all numbers."""
    known, wanted = (sum(isinstance(dim, int) for dim in each) for each in (shape, declared))
    return known < len(shape) and known <= wanted
