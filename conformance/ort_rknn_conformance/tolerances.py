"""Which tolerance an output gets: by precision, by what the flow rounds, and by whether a softmax made it."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from ort_rknn_converters.verify import tolerance as by_precision

from ort_rknn_conformance.compare import Tolerance
from ort_rknn_conformance.flows import Flow

__all__ = ["tolerances"]

# A cut forbids fusions across it, and float32 sums then run in another order. A guess with a wide margin: 1e-6 is seen.
UNROUNDED = Tolerance(1e-5, "float32 in another order (a guess)")

SOFTMAX = frozenset({"Softmax", "LogSoftmax"})
# What leaves a softmax's numbers a softmax's: the search for it goes through these and stops at all others.
TRANSPARENT = frozenset(
    {
        "Reshape",
        "Transpose",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Identity",
        "Cast",
        "Slice",
        "Split",
        "Concat",
        "Gather",
    }
)


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
    makers = {name: node for node in model.graph.node for name in node.output if name}

    def after_softmax(name: str, seen: set[str]) -> bool:
        node = makers.get(name)
        if node is None or name in seen:
            return False
        seen.add(name)
        if node.op_type in SOFTMAX:
            return True
        return node.op_type in TRANSPARENT and any(after_softmax(item, seen) for item in node.input)

    found = {}
    for name in names:
        softmax = after_softmax(name, set())
        source = f"{precision}{' after a softmax' if softmax else ''}: measured on the vendor's simulator"
        found[name] = Tolerance(by_precision(precision, softmax), source)
    return found
