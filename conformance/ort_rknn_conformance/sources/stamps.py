"""Older version stamps on a model whose content is old enough: onnxruntime refuses stamps newer than itself.

The ``onnx`` package stamps its cases with its own newest opset, which is usually still under development. An operator's
schema holds from the opset that introduced it until the next one that changes it; so a model means the same under the
newest opset that any of its operators asks for.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

__all__ = ["restamp"]

# onnxruntime 1.20, the oldest this package works with, takes these. A model that needs a newer opset keeps needing it.
IR_VERSION = 10
OPSET = 21


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
        return int(onnx.defs.get_schema(node.op_type, version, "").since_version)
    except onnx.defs.SchemaError:
        return None


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    todo = [list(model.graph.node), *(list(function.node) for function in model.functions)]
    while todo:
        for node in todo.pop():
            yield node
            for attribute in node.attribute:
                bodies = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
                todo.extend(list(body.node) for body in bodies)
