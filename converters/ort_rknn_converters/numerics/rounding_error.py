"""Whether what is wrong with compiled code is only what rounding to fp16 does to that part of the model.

Two kinds of error no other place for a node would cure, because everything before it is rounded all the same: errors
that grow a little from node to node, until a deep network is beyond the tolerance, and decisions between nearly equal
values (the position of the largest, a threshold). A run of our own, with every node's output rounded, shows both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ort_rknn_converters.errors import RunFailed
from ort_rknn_converters.numerics.fp16_rounding import round_to_fp16
from ort_rknn_converters.numerics.reference_run import without_weights
from ort_rknn_converters.numerics.tensor_error import compare
from ort_rknn_converters.numerics.tolerance import Reference, verify_answers
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.bounded_run import SLOW_S, Run, bounded
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Rounded", "behind", "deciders", "rounded_run"]

_DEEP = 16
"""Nodes from which on a part counts as deep. A guess: in a shallower one it is an op that takes nearly equal values
from one another, and its inputs may come unrounded from the CPU."""

_TIMES = 2.0
"""How much more the compiled code may be off than our own run. The compiler fuses nodes, so other values are rounded;
1.6 times was the most seen, on YOLOv8-obb and EfficientNet-lite0."""

_MOST = 4.5e-2
"""Largest relative RMS error that is put up with: that of a cosine similarity of 0.999."""


@frozen
class Rounded:
    """Effect of rounding alone on a part.

    Attributes:
        noise: Relative RMS error of each floating output, the worst over all feeds.
        flipped: The other outputs that come out differently.
        deep: Whether errors had many nodes to grow in.
    """

    noise: Mapping[str, float]
    flipped: frozenset[str]
    deep: bool

    def explained_by_rounding(
        self, expected: Reference, answers: Sequence[Mapping[str, NDArray[Any]]], wrong: Iterable[str]
    ) -> str:
        """Explains wrong floating outputs by rounding; empty where rounding does not explain them.

        Args:
            expected: What ONNX Runtime computes.
            answers: What the compiled code computes, per feed.
            wrong: Names of the outputs in question.
        """
        if not self.deep:
            return ""
        worst = {}
        for name in wrong:
            alone = Reference(tuple({name: one[name]} for one in expected.outputs), {}, frozenset())
            limit = min(_MOST, _TIMES * self.noise.get(name, 0.0))
            verified = verify_answers(alone, answers, precision="fp16", precise=limit)
            if verified.problem:
                return ""
            worst[name] = verified.rel_rms
        what = ", ".join(f"{name} by a relative RMS of {error:.2g}" for name, error in worst.items())
        return (
            f"rounding to fp16 adds up to more than usual: {what}. Our own run of the same nodes, rounded one by one,"
            " is off as much, so no node computes something else. Compare on your own data (ort-rknn check)"
        )


def rounded_run(model: onnx.ModelProto, feeds: Sequence[Mapping[str, NDArray[Any]]], expected: Reference) -> Rounded:
    """Run a part with every node's output rounded to fp16.

    Args:
        model: The part as standalone ONNX; ONNX Runtime has run it exactly.
        feeds: Input name -> array.
        expected: What came out.
    """
    copy, weights = without_weights(round_to_fp16(model))
    names = [value.name for value in model.graph.output]
    answers: list[list[Any]] = []

    def compute(run: Run) -> None:
        session = ort.on_cpu(copy.SerializeToString(), ort.quiet_options("ORT_DISABLE_ALL"))
        for feed in feeds:
            run.next_feed()
            answers.append(session.run(names, weights | dict(feed), run.options))

    try:
        bounded(compute, SLOW_S, "the segment")
    except RunFailed:
        return Rounded({}, frozenset(), False)  # which excuses nothing
    noise: dict[str, float] = {}
    flipped: set[str] = set()
    for got_all, wanted in zip(answers, expected.outputs, strict=True):
        for name, got in zip(names, got_all, strict=True):
            if got.dtype.kind == "f":
                noise[name] = max(noise.get(name, 0.0), compare(wanted[name], got).rel_rms)
            elif not np.array_equal(got, wanted[name]):
                flipped.add(name)
    return Rounded(noise, frozenset(flipped), len(model.graph.node) >= _DEEP)


def behind(model: onnx.ModelProto, names: Collection[str]) -> set[str]:
    """The values that some nodes make, and all that is computed from them."""
    made: set[str] = set()
    for node in model.graph.node:
        if node.name in names or not made.isdisjoint(node.input):
            made.update(node.output)
    return made


def deciders(model: onnx.ModelProto, outputs: Iterable[str]) -> dict[str, str]:
    """The nodes that make positions or truth values of floats on the way to some outputs.

    Args:
        model: A part as standalone ONNX, its values typed.
        outputs: Names of outputs that are not floating.

    Returns:
        Node name -> op, of the last such node before each output.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    graph = model.graph
    floats = {
        value.name
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    } | {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    found: dict[str, str] = {}
    waiting = list(outputs)
    while waiting:
        node = makers.pop(waiting.pop(), None)
        if node is None:
            continue
        if any(name in floats for name in node.input):
            found[node.name] = node.op_type
        else:
            waiting += node.input
    return found
