"""Chooses the tolerance of an output: by precision, by what the flow rounds, and by whether a softmax made it."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from ort_rknn_conformance.flows import MIXED, Flow
from ort_rknn_conformance.run.compare import Tolerance
from ort_rknn_converters.numerics.tolerance import softmax_outputs
from ort_rknn_converters.numerics.tolerance import tolerance as by_precision

__all__ = ["tolerances"]

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
        found[name] = Tolerance(by_precision(precision, softmax), source)
    return found
