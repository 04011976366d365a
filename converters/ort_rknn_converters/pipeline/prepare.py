"""Prepares a whole model for placement: the passes, in their order, until nothing changes."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph.infer import infer
from ort_rknn_converters.graph.infer_contrib import infer_contrib
from ort_rknn_converters.graph.onnx_graph import name_nodes
from ort_rknn_converters.numerics.seen_shapes import see_shapes
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.passes.base import OLDEST, Context, Pass, drop_unused
from ort_rknn_converters.passes.expand.attention import Attention
from ort_rknn_converters.passes.expand.cast_like import CastLike
from ort_rknn_converters.passes.expand.contrib import Contrib, EarlyNorms
from ort_rknn_converters.passes.expand.contrib_attention import ContribAttention
from ort_rknn_converters.passes.expand.einsum import Einsum
from ort_rknn_converters.passes.expand.empty_concat_parts import EmptyParts
from ort_rknn_converters.passes.expand.function_ops import FunctionOps
from ort_rknn_converters.passes.expand.norms import Norms
from ort_rknn_converters.passes.expand.packed_weights import PackedWeights
from ort_rknn_converters.passes.expand.rotary import Rotary
from ort_rknn_converters.passes.expand.row_gathers import RowGathers
from ort_rknn_converters.passes.rewrite.activations import Activations
from ort_rknn_converters.passes.rewrite.attention_masks import Masks
from ort_rknn_converters.passes.rewrite.elementwise import Ceil, ClipLimits, Logic, MinMax, Sign, Sums, Trigonometry
from ort_rknn_converters.passes.rewrite.framed_conv import FramedConv
from ort_rknn_converters.passes.rewrite.long_reshapes import LongRows, RelativePositions
from ort_rknn_converters.passes.rewrite.masked_fill import MaskedFill
from ort_rknn_converters.passes.rewrite.merge_dims import FewerDims
from ort_rknn_converters.passes.rewrite.outer_product import OuterProduct
from ort_rknn_converters.passes.rewrite.pools import DilatedPools, MaxPool3d
from ort_rknn_converters.passes.rewrite.reductions import Reductions
from ort_rknn_converters.passes.rewrite.shared_products import SharedProducts
from ort_rknn_converters.passes.rewrite.trilu import Trilu
from ort_rknn_converters.passes.simplify.constant_if import IfKnown
from ort_rknn_converters.passes.simplify.constants import Constants
from ort_rknn_converters.passes.simplify.dequantized_weights import DequantizedWeights
from ort_rknn_converters.passes.simplify.dropout import Dropouts
from ort_rknn_converters.passes.simplify.dynamic_products import DynamicProducts
from ort_rknn_converters.passes.simplify.fold import Fold
from ort_rknn_converters.passes.simplify.identity import Identities
from ort_rknn_converters.passes.simplify.initializer_inputs import ListedConstants
from ort_rknn_converters.passes.simplify.inline_functions import Functions
from ort_rknn_converters.passes.simplify.pinned_values import PinnedValues
from ort_rknn_converters.passes.simplify.qoperators import QOperators
from ort_rknn_converters.passes.simplify.static_shapes import StaticShapes
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Prepared", "prepare"]

_ROUNDS = 50
"""Rounds of folding and inference at most (a guess; real models need two to four)."""

_MISTAKEN = frozenset({"Col2Im", "DFT", "STFT"})
"""Ops whose shapes ONNX's inference is known to get wrong (STFT), or likely to."""

_SIMPLIFY: tuple[Pass, ...] = (
    Constants(),
    Identities(),
    Dropouts(),
    IfKnown(),
    QOperators(),
    DequantizedWeights(),
    Fold(),
)
"""What makes models smaller; repeated, with inference in between, until nothing changes."""

_EXPAND: tuple[Pass, ...] = (
    DynamicProducts(),
    EmptyParts(),
    FunctionOps(),
    CastLike(),
    Attention(),
    Contrib(),
    EarlyNorms(),
    PackedWeights(),
    ContribAttention(),
    Rotary(),
    RowGathers(),
    Norms(),
    Einsum(),
)
"""What is written in terms of ops that may need a rewrite themselves."""

_REWRITE: tuple[Pass, ...] = (
    Activations(),
    Ceil(),
    ClipLimits(),
    FramedConv(),
    Logic(),
    LongRows(),
    RelativePositions(),
    MaskedFill(),
    Masks(),
    MaxPool3d(),
    DilatedPools(),
    MinMax(),
    OuterProduct(),
    Reductions(),
    SharedProducts(),
    Sign(),
    Sums(),
    Trigonometry(),
    Trilu(),
    FewerDims(),
)
"""What the compiler does not know, in terms of what it does."""


@frozen
class Prepared:
    """A model ready to be cut.

    Attributes:
        model: The prepared model: same inputs, outputs, metadata and answers as the original.
        changes: What the passes did, in sentences.
    """

    model: ir.Model
    changes: tuple[str, ...]


def prepare(model: ir.Model, options: ConvertOptions | None = None, *, run_time_rounding: bool = False) -> Prepared:
    """Bring a model into the form the rest of the house works on.

    Args:
        model: The model as read; it is left as it is.
        options: Of these only ``shapes``, ``dims`` and ``values`` matter here.
        run_time_rounding: Keep the 8 bits to which products are rounded at run time.

    Returns:
        The prepared model: fixed shapes, constants as initializers, what is constant folded, every node named, and
        every value with type and shape as far as inference knows them.

    Raises:
        ModelError: ``options.shapes`` or ``options.dims`` contradict the model.
    """
    original = model
    model = model.clone()
    ctx = Context.of(model, options or ConvertOptions())
    changes: list[str] = []

    def run(*passes: Pass) -> bool:
        said = [sentence for each in passes for sentence in each.apply(model, ctx)]
        changes.extend(said)
        return bool(said)

    def settle() -> None:
        for _ in range(_ROUNDS):
            infer(model)
            if not run(*_SIMPLIFY) and not infer_contrib(model):
                break

    expand = [one for one in _EXPAND if not run_time_rounding or not isinstance(one, DynamicProducts)]
    changes.extend(name_nodes(model))
    run(ListedConstants(), Functions())
    pinned = run(StaticShapes())
    run(PinnedValues())
    settle()
    if pinned or any(node.op_type in _MISTAKEN for node in model.graph):
        _check_shapes(model, original, pinned=pinned)
        settle()
    if ctx.opset >= OLDEST:
        for _ in range(_ROUNDS):  # what one layer is expanded into may tell the shapes of the next
            if not run(*expand):
                break
            settle()
        if run(*_REWRITE):
            settle()
    drop_unused(model)
    changes.extend(name_nodes(model))
    return Prepared(model, tuple(changes))


def _check_shapes(model: ir.Model, original: ir.Model, *, pinned: bool) -> None:
    """Refuse fixed shapes that onnxruntime cannot work with, unless the model has that fault without them as well.

    Inference finds more contradictory than is: there the shapes are taken from a run.
    """
    try:
        infer(model, strict=True)
    except Exception as error:  # the binding raises several kinds
        refused = see_shapes(model)
        if not refused or not pinned:
            return
        try:
            infer(original.clone(), strict=True)
        except Exception:
            return
        raise ModelError(f"the shapes given contradict the model: {error}") from error
