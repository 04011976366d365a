"""Older version stamps on a model whose content is old enough: onnxruntime refuses stamps newer than itself.

The ``onnx`` package stamps its cases with its own newest opset, which is usually still under development. An operator's
schema holds from the opset that introduced it until the next one that changes it; so a model means the same under the
newest opset that any of its operators asks for. Opsets under development mostly allow more types: a node means the same
under the schema before, too, if that has its inputs, outputs and attributes.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

__all__ = ["restamp"]

# onnxruntime 1.20, the oldest this package works with, takes these. A model that needs a newer opset keeps needing it.
IR_VERSION = 10
OPSET = 21
RELEASED = 26  # the newest that onnxruntime 1.31 takes


def restamp(model: onnx.ModelProto) -> None:
    """Lower ``model``'s IR version and its opset of the standard's domain, in place, as far as its meaning stays."""
    model.ir_version = min(model.ir_version, IR_VERSION)
    stamps = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    for function in model.functions:
        stamps += [entry for entry in function.opset_import if entry.domain in ("", "ai.onnx")]
    if not stamps or len({entry.version for entry in stamps}) > 1 or stamps[0].version <= OPSET:
        return
    version = stamps[0].version
    needed = [_since(node, version) for node in _nodes(model)]
    if None not in needed:
        for entry in stamps:
            entry.version = max([OPSET, *(since for since in needed if since is not None)])


def _since(node: onnx.NodeProto, version: int) -> int | None:
    """The opset that introduced a node's schema; 0 outside the standard's domain, ``None`` when there is none."""
    if node.domain not in ("", "ai.onnx"):
        return 0
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return None
    while schema.since_version > RELEASED:
        try:
            older = onnx.defs.get_schema(node.op_type, schema.since_version - 1, "")
        except onnx.defs.SchemaError:
            break
        if not _means_the_same(node, schema, older):
            break
        schema = older
    return int(schema.since_version)


def _means_the_same(node: onnx.NodeProto, schema: onnx.defs.OpSchema, older: onnx.defs.OpSchema) -> bool:
    """Whether two schemas differ for this node in types alone: onnxruntime refuses types the older one has not."""
    edges = [[[(one.name, one.option) for one in side] for side in (s.inputs, s.outputs)] for s in (schema, older)]
    attributes, before = ({name: _declared(one) for name, one in s.attributes.items()} for s in (schema, older))
    kept = all(attributes.get(name) == declared for name, declared in before.items())
    return edges[0] == edges[1] and kept and all(attribute.name in before for attribute in node.attribute)


def _declared(attribute: onnx.defs.OpSchema.Attribute) -> tuple[object, bool, bytes]:
    return attribute.type, attribute.required, attribute.default_value.SerializeToString()


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    todo = [list(model.graph.node), *(list(function.node) for function in model.functions)]
    while todo:
        for node in todo.pop():
            yield node
            for attribute in node.attribute:
                bodies = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
                todo.extend(list(body.node) for body in bodies)
