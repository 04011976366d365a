"""Attention masks of minus infinity, or nearly so -> masks that fp16 holds, right for rows that may see nothing too.

Added to scores, -3.4e38 swallows them: the shares of a row that is masked as a whole are all the same. What an NPU can
hold does not swallow them, so in such rows the scores are made zero. Minus infinity makes such a row NaN, which
PyTorch's exporters turn into zeros behind every Softmax, by an op the compiler does not know; here the mask itself is
asked, once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.op_support.fp16_range import FORBIDDEN, SEES_NOTHING
from ort_rknn_converters.passes.base import Context, Pass, Tape, kept_for_cpu
from ort_rknn_converters.passes.rewrite.attention_mask_search import Edge, Masked, Source, masked_softmaxes

__all__ = ["Masks"]

_OLDEST = 9  # opset with IsNaN, and with comparisons as they are now


class Masks(Pass):
    """Rewrites masks with large negative values, to a few roundings.

    A mask stays as it is where its effect may be seen anywhere but in a Softmax.
    """

    name = "masks"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """All Softmaxes of the main graph whose masks have nothing else to do."""
        if ctx.opset < _OLDEST:
            return ()
        found = _complete([each for each in masked_softmaxes(model.graph) if not kept_for_cpu(each.softmax, ctx)])
        if not found:
            return ()
        writer = _Writer(model, ctx)
        for each in found:
            writer.unguard(each)
        for each in sorted(found, key=lambda one: one.becomes_zero):  # what is multiplied first, is not replaced
            writer.rewrite(each)
        for source in dict.fromkeys(source for each in found for source in each.sources):
            writer.soften(source)
        model.graph.sort()
        masks = sum(bool(each.sources) for each in found)
        guards = sum(each.guard is not None for each in found)
        said = []
        if masks:
            said.append(f"the masks of {masks} Softmax brought into fp16's range")
        if guards:
            said.append(f"the search for NaN behind {guards} Softmax replaced by one in the mask")
        return tuple(said)


def _complete(found: Sequence[Masked]) -> list[Masked]:
    """Masks whose sources serve only Softmaxes that are rewritten: a constant is changed for all of them or none."""
    kept = list(found)
    while True:
        softmaxes = {each.softmax for each in kept}
        left = [each for each in kept if all(source.softmaxes <= softmaxes for source in each.sources)]
        if len(left) == len(kept):
            return left
        kept = left


class _Writer:
    """Writes what takes the place of the masks; what serves several Softmaxes is written once."""

    def __init__(self, model: ir.Model, ctx: Context) -> None:
        self._model = model
        self._ctx = ctx
        self._seeing: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._multiplied: set[Edge] = set()

    def unguard(self, found: Masked) -> None:
        """Remove the search for NaN."""
        if found.guard is None:
            return
        isnan = found.softmax.outputs[0].consumers()
        found.guard.outputs[0].replace_all_uses_with(found.softmax.outputs[0])
        self._model.graph.remove(found.guard, safe=True)
        self._model.graph.remove([node for node in isnan if node is not found.guard], safe=True)

    def rewrite(self, found: Masked) -> None:
        """Handles rows in which the mask excludes every position."""
        if found.mask is None:
            return
        if found.becomes_zero:
            self._zero(found.softmax, found.mask)
            return
        for edge in found.scores:
            if edge not in self._multiplied:
                self._multiplied.add(edge)
                self._multiply(edge, found.mask)

    def soften(self, source: Source) -> None:
        """Put numbers that fp16 holds in the place of those it does not."""
        for position in source.positions:
            value = Edge(source.node, position).value
            tensor = onnx_graph.constant(value)
            assert tensor is not None
            softer = np.maximum(tensor.numpy().astype(np.float64), FORBIDDEN)
            source.node.replace_input_with(position, self._tape(source.node).const(softer, value.dtype))

    def _tape(self, node: ir.Node) -> Tape:
        return Tape(self._model, self._ctx, self._ctx.opset, node)

    def _seeing_rows(self, mask: ir.Value, like: ir.Value, tape: Tape) -> ir.Value:
        """One for rows that see anything, zero for the others: [..., queries or 1, 1]."""
        assert like.dtype is not None
        key = mask, like.dtype
        if key not in self._seeing:
            best = tape.reduce("ReduceMax", mask, [-1], keepdims=True)
            some = tape.op("Greater", best, tape.like(best, SEES_NOTHING))
            self._seeing[key] = tape.op("Cast", some, to=int(like.dtype))
        return self._seeing[key]

    def _multiply(self, edge: Edge, mask: ir.Value) -> None:
        tape = self._tape(edge.node)
        product = tape.op("Mul", edge.value, self._seeing_rows(mask, edge.value, tape))
        tape.insert()
        edge.node.replace_input_with(edge.position, product)

    def _zero(self, softmax: ir.Node, mask: ir.Value) -> None:
        """Rows that see nothing give zeros; after the product with the values, if there is one: that is smaller."""
        shares = softmax.outputs[0]
        users = list(shares.uses())
        node = softmax
        if len(users) == 1 and users[0].idx == 0 and users[0].node.op_type == "MatMul" and not shares.is_graph_output():
            node = users[0].node
        tape = self._tape(node)
        same = tape.op(node.op_type, *node.inputs, **{name: attr.value for name, attr in node.attributes.items()})
        tape.commit([tape.op("Mul", same, self._seeing_rows(mask, same, tape))])
