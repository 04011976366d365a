"""Chooses the tolerance of an output: by precision, by what the flow rounds, and by whether a softmax made it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx

from ort_rknn_conformance.flows import MIXED, Flow
from ort_rknn_conformance.run.compare import Tolerance
from ort_rknn_converters.numerics.tolerance import group_tolerance, probability_step, softmax_outputs
from ort_rknn_converters.numerics.tolerance import tolerance as by_precision
from ort_rknn_converters.util.frozen import frozen

__all__ = ["EXPLAINED", "Explained", "meaning", "tolerances"]

# A cut forbids fusions across it, and float32 sums then run in another order. A guess with a wide margin: 1e-6 is seen.
UNROUNDED = Tolerance(1e-5, "float32 in another order (a guess)")
OWN_INT8 = Tolerance(0.1, "the model rounds to 8 bits itself (a guess)")
_ROUNDS = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinear", "QGemm")
MIXED_LIMIT = Tolerance(2 * MIXED["max_loss"], "twice what mixed promises on its calibration data (a guess)")


def tolerances(
    model: onnx.ModelProto, flow: Flow, precision: str, *, on_npu: bool, override: float | None = None
) -> Mapping[str, Tolerance]:
    """The tolerance of every output of ``model``.

    Args:
        model: The original model, for its graph only.
        flow: A flow that does not round has no use for the precision's tolerance.
        precision: ``fp16`` ...
        on_npu: Whether any node ran on the flow's device; what ran wholly on the CPU must match as float32 does.
        override: The user's own relative RMS for all outputs.
    """
    names = [output.name for output in model.graph.output]
    if override is not None:
        return dict.fromkeys(names, Tolerance(override, "--tolerance"))
    if not (flow.rounds and on_npu):
        return dict.fromkeys(names, UNROUNDED)
    if any(node.op_type.startswith(_ROUNDS) for node in model.graph.node):
        return dict.fromkeys(names, OWN_INT8)
    if precision == "mixed":
        return dict.fromkeys(names, MIXED_LIMIT)
    amplified = softmax_outputs(model)
    found = {}
    for name in names:
        softmax = name in amplified
        source = f"{precision}{' after a softmax' if softmax else ''}: measured on the vendor's simulator"
        found[name] = Tolerance(by_precision(precision, softmax), source, probability_step(precision))
    return found


@frozen
class Explained:
    """One tolerance for the documentation.

    Attributes:
        case: Which outputs it is of.
        limit: Largest relative RMS.
        source: Where the number comes from.
        decision: What it leaves open for a decision that is made of the output.
    """

    case: str
    limit: float
    source: str
    decision: str

    @property
    def groups(self) -> float:
        """Largest relative RMS of a group of smaller values in such an output."""
        return group_tolerance(self.limit)


def _explained() -> Iterator[Explained]:
    yield Explained(
        "float32: nothing ran on the NPU path, or the flow does not round",
        UNROUNDED.rel_rms,
        UNROUNDED.source,
        meaning(UNROUNDED.rel_rms),
    )
    for precision, softmax in (("fp16", False), ("fp16", True), ("int8", False)):
        limit = by_precision(precision, softmax)
        case = "int8 and w4a16, with or without a Softmax" if precision == "int8" else precision
        source = "measured on the vendor's simulator: random CNNs are 0.32 off" if precision == "int8" else "measured"
        yield Explained(f"{case}{' after a Softmax' if softmax else ''}", limit, source, meaning(limit))
    yield Explained(
        "mixed: int8 in which layers stay fp16", MIXED_LIMIT.rel_rms, MIXED_LIMIT.source, meaning(MIXED_LIMIT.rel_rms)
    )


_BOX = 320.0
"""Pixels: the size of an ordinary box coordinate in a picture of 640."""

_LOOSE = 0.1
"""From here on a tolerance says that a result is no other one, not that decisions agree. A guess."""


def meaning(limit: float) -> str:
    """Meaning of a tolerance for decisions, by arithmetic alone: no data set was measured for it.

    Args:
        limit: Largest relative RMS of an output.
    """
    pixels = limit * _BOX
    number = f"{pixels:.0f}" if pixels >= 10 else f"{pixels:.2g}"
    move = "less than 0.1 pixels" if pixels < 0.1 else f"about {number} pixels"
    boxes = f"boxes of a picture of 640 pixels may move by {move}"
    if limit >= _LOOSE:
        return (
            f"the best class of many pictures may be another, and {boxes}: it only tells a coarse result from a wrong"
            " one; measure with labels (--data, --labels)"
        )
    margin = f"{200 * limit:.2g} %"
    return f"the best class may be another where the two best are within about {margin} of each other; {boxes}"


EXPLAINED: tuple[Explained, ...] = tuple(_explained())
"""Every tolerance there is, for the documentation."""
