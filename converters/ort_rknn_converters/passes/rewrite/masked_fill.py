"""Softmax over ``Where(mask, number, scores)``, as masked_fill writes it -> sums and products, which stay in one part.

The toolkit fuses the two into an op of its own that it leaves to the board's CPU, and the vendor's list of CPU ops does
not have it. ``scores * keep + number * mask`` is the same for every finite number: also where a row is masked as a
whole, whose shares are all the same. Minus infinity makes such rows NaN. No NPU was seen to compute that: the mask is
asked on the CPU, and what it answers is added.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.onnx_file.tensor_types import FP16_MAX
from ort_rknn_converters.op_support.fp16_range import FORBIDDEN, way_to_softmax
from ort_rknn_converters.passes.base import FLOATS, Context, Pass, Tape, kept_for_cpu
from ort_rknn_converters.passes.rewrite.attention_mask_search import behind_relabels, nan_guard
from ort_rknn_converters.util.frozen import frozen

__all__ = ["MaskedFill"]

_OLDEST = 13  # opset with ReduceMax of integers, and Softmax along one axis

_MAY_BE_INFINITE = frozenset({"Div", "Exp", "Log", "Pow", "Reciprocal", "Where"})
"""Ops that make infinities of finite numbers, or choose them: zero times those would be NaN."""

_SUMS = frozenset({"Add", "Cast", "Concat", "Expand", "Identity", "Mul", "Reshape", "Slice", "Sub", "Transpose"})


@frozen
class _Filled:
    """A Where before a Softmax.

    Attributes:
        where: The node.
        number: What masked scores are replaced by.
        chosen: Whether the number stands where the condition is true.
    """

    where: ir.Node
    number: float
    chosen: bool

    @property
    def scores(self) -> ir.Value:
        """Value that is kept where the mask does not fill."""
        value = self.where.inputs[2 if self.chosen else 1]
        assert value is not None
        return value


class MaskedFill(Pass):
    """Writes a masked fill before a Softmax as a sum, equal to a rounding.

    A Where whose scores may be infinite stays, for zero times infinity is NaN.
    """

    name = "masked-fill"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """All Softmaxes of the main graph."""
        if ctx.opset < _OLDEST:
            return ()
        done = 0
        writer = _Writer(model, ctx)
        for softmax in list(model.graph):
            if softmax.op_type != "Softmax" or softmax.domain or kept_for_cpu(softmax, ctx):
                continue
            last = behind_relabels(softmax)
            filled = _filled(last) if last is not None and not kept_for_cpu(last, ctx) else None
            if filled is not None and _whole(softmax, filled):
                writer.write(softmax, filled)
                done += 1
        model.graph.sort()
        return (f"the masked fill before {done} Softmax written as sum and product",) if done else ()


def _filled(node: ir.Node) -> _Filled | None:
    if node.op_type != "Where" or node.domain or node.outputs[0].dtype not in FLOATS:
        return None
    for position, chosen in ((1, True), (2, False)):
        tensor = onnx_graph.constant(node.inputs[position])
        if tensor is None or tensor.size != 1:
            continue
        number = float(tensor.numpy().reshape(()))
        filled = _Filled(node, number, chosen)
        if not number <= FP16_MAX or not _finite(filled.scores):
            return None
        # Another number may take its place only where nothing but a Softmax sees it.
        way = way_to_softmax(node)
        unseen = way is not None and all(each.op_type != "LogSoftmax" for each in way)
        return filled if unseen or number >= -FP16_MAX else None
    return None


def _whole(softmax: ir.Node, filled: _Filled) -> bool:
    """Whether a row of the mask is a row of the Softmax: only infinity asks for that."""
    if np.isfinite(filled.number):
        return True
    mask, scores = (onnx_graph.static_shape(value) for value in (filled.where.inputs[0], filled.where.outputs[0]))
    shape = onnx_graph.static_shape(softmax.inputs[0])
    if not mask or not scores or not shape or softmax.attributes.get_int("axis", -1) not in (-1, len(shape) - 1):
        return False
    direct = filled.where.outputs[0].consumers() == (softmax,)
    return direct and mask[-1] in (1, scores[-1])


def _finite(value: ir.Value) -> bool:
    """Whether scores may be taken to be finite: the caller's own numbers are, unless they are added like a mask."""
    waiting: list[tuple[ir.Value | None, bool]] = [(value, False)]
    seen: set[ir.Value] = set()
    while waiting:
        one, added = waiting.pop()
        if one is None or one in seen:
            continue
        seen.add(one)
        known = onnx_graph.constant(one)
        if known is not None:
            if known.dtype in FLOATS and not (np.abs(known.numpy().astype(np.float64)) <= FP16_MAX).all():
                return False
            continue
        node = one.producer()
        if node is None:
            if added and one.dtype in FLOATS:
                return False
            continue
        if node.op_type in _SUMS:
            waiting += [(each, added or node.op_type in ("Add", "Sub")) for each in node.inputs]
        elif node.op_type == "Div" and onnx_graph.constant(node.inputs[1]) is not None:
            waiting.append((node.inputs[0], added))
        elif node.op_type in _MAY_BE_INFINITE:
            return False
    return True


class _Writer:
    """Writes what takes the place of the Wheres; what comes of one mask for every layer is written once."""

    def __init__(self, model: ir.Model, ctx: Context) -> None:
        self._model = model
        self._ctx = ctx
        self._known: dict[tuple[ir.Value, bool, ir.DataType, float, bool], tuple[ir.Value, ir.Value]] = {}

    def write(self, softmax: ir.Node, filled: _Filled) -> None:
        """Replace one Where, and the search for NaN behind its Softmax."""
        condition, scores, endless = filled.where.inputs[0], filled.scores, not np.isfinite(filled.number)
        assert condition is not None
        assert scores.dtype is not None
        guard = nan_guard(softmax)
        tape = Tape(self._model, self._ctx, self._ctx.opset, filled.where)
        key = condition, filled.chosen, scores.dtype, filled.number, endless and guard is None
        if key not in self._known:
            self._known[key] = _parts(tape, condition, scores, filled, key[-1])
        keep, added = self._known[key]
        tape.commit([tape.op("Add", tape.op("Mul", scores, keep), added)])
        if guard is not None:
            _unguard(self._model, self._ctx, softmax, guard, keep if endless else None)


def _parts(
    tape: Tape, condition: ir.Value, scores: ir.Value, filled: _Filled, with_nan: bool
) -> tuple[ir.Value, ir.Value]:
    """One where scores are kept, and what is added to them."""
    other = tape.op("Not", condition)
    masked, kept = (condition, other) if filled.chosen else (other, condition)
    number = filled.number if filled.number >= -FP16_MAX else FORBIDDEN
    mask, keep = (tape.op("Cast", each, to=int(scores.dtype or ir.DataType.FLOAT)) for each in (masked, kept))
    added = tape.op("Mul", mask, tape.like(scores, number))
    return keep, tape.op("Add", added, _nan_rows(tape, masked, scores)) if with_nan else added


def _nan_rows(tape: Tape, masked: ir.Value, scores: ir.Value) -> ir.Value:
    """NaN for rows that are masked as a whole, zero for the others; by ops that stay on the CPU, being exact there."""
    least = tape.reduce("ReduceMin", tape.op("Cast", masked, to=int(ir.DataType.INT64)), [-1], keepdims=True)
    all_masked = tape.op("Cast", least, to=int(ir.DataType.BOOL))
    nan: ir.Value = tape.op("Where", all_masked, tape.like(scores, np.nan), tape.like(scores, 0.0))
    return nan


def _unguard(model: ir.Model, ctx: Context, softmax: ir.Node, guard: ir.Node, keep: ir.Value | None) -> None:
    """Remove the search for NaN; where rows that see nothing were NaN, they are multiplied by zero."""
    shares = softmax.outputs[0]
    found = [node for node in shares.consumers() if node is not guard]
    if keep is None:
        guard.outputs[0].replace_all_uses_with(shares)
        model.graph.remove(guard, safe=True)
    else:
        tape = Tape(model, ctx, ctx.opset, guard)
        tape.commit([tape.op("Mul", shares, tape.reduce("ReduceMax", keep, [-1], keepdims=True))])
    model.graph.remove(found, safe=True)
