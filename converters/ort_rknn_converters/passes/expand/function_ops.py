"""Puts the standard's own function body in the place of ops the compiler does not know but whose parts it does."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.infer import infer
from ort_rknn_converters.graph.op_schemas import carries_over
from ort_rknn_converters.passes.base import Context, Pass, kept_for_cpu
from ort_rknn_converters.passes.simplify.inline_functions import Functions

__all__ = ["FunctionOps"]

_OPS: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "CenterCropPad": (1,),
    "NegativeLogLikelihoodLoss": (),
    "SoftmaxCrossEntropyLoss": (),
}
"""Op -> inputs that must be constants for the body to be worth anything (else its shapes are not known)."""

_DOMAIN = "ort_rknn.bodies"


class FunctionOps(Pass):
    """Inlines the bodies of a short list of ops, where the body is written in ops of the model's version."""

    name = "function-ops"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Each call becomes a function of its own first, since a body may depend on types and attributes."""
        said = self._once(model, ctx)
        if not said:
            return ()
        # The body of one loss calls the other, whose body depends on types.
        infer(model)
        return (*said, *self.apply(model, ctx))

    def _once(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        changed: list[str] = []
        for index, node in enumerate(list(model.graph)):
            if node.domain or node.op_type not in _OPS or kept_for_cpu(node, ctx):
                continue
            if any(onnx_graph.constant(node.inputs[known]) is None for known in _OPS[node.op_type]):
                continue
            body = _body(node, ctx.opset)
            if body is None:
                continue
            # Bodies list every output of the op, those included that this call (and so its body) does not make.
            del body.output[len(node.outputs) :]
            body.domain, body.name = _DOMAIN, f"{node.op_type}_{index}"
            function = ir.serde.deserialize_function(body)
            model.functions[function.identifier()] = function
            _fill_in_defaults(node, ctx.opset)
            changed.append(node.op_type)
            node.domain, node.op_type = _DOMAIN, body.name
        if not changed:
            return ()
        Functions().apply(model, ctx)
        return tuple(f"{changed.count(op)} {op} replaced by its function body" for op in sorted(set(changed)))


def _body(node: ir.Node, opset: int) -> onnx.FunctionProto | None:
    # The stubs of onnx leave the function members out.
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:  # the model imports no opset that has it
        return None
    if schema.has_context_dependent_function:
        types = []
        for value in node.inputs:
            if value is None or value.type is None:
                return None
            types.append(ir.serde.serialize_value(value).type.SerializeToString())
        versions = schema.context_dependent_function_opset_versions
        version = max((each for each in versions if each <= opset), default=None)
        if version is None:
            return None
        data = schema.get_context_dependent_function_with_opset_version(
            version, ir.serde.serialize_node(node).SerializeToString(), types
        )
        body = onnx.FunctionProto.FromString(data)
    elif schema.has_function:
        body = onnx.FunctionProto()
        body.CopyFrom(schema.function_body)
    else:
        return None
    return body if _unchanged(body, opset) else None


def _unchanged(body: onnx.FunctionProto, opset: int) -> bool:
    """Whether every op of ``body`` means the same in ``opset``; if so, ``body`` is stamped with it."""
    for imported in body.opset_import:
        if imported.domain:
            return False
        for node in body.node:
            attributes = {attr.name: ir.serde.deserialize_attribute(attr).value for attr in node.attribute}
            if carries_over(node.op_type, attributes, imported.version, opset) != frozenset():
                return False
        imported.version = opset
    return True


def _fill_in_defaults(node: ir.Node, opset: int) -> None:
    """Write the op's default attributes on the call: a function knows none of its own."""
    for name, attr in onnx.defs.get_schema(node.op_type, opset, "").attributes.items():
        if name not in node.attributes and attr.default_value.type != onnx.AttributeProto.UNDEFINED:
            node.attributes[name] = ir.serde.deserialize_attribute(attr.default_value)
