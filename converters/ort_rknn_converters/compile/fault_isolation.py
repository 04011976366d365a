"""Finding the nodes that spoil a segment, and remembering them for the next model.

The tables of :mod:`ort_rknn_converters.op_support.decide` only propose. When a segment fails, the compiler's own
report names the culprit, or else the segment is cut in half again and again until it is alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ort_rknn_converters.compile.attempt import Attempt, Failure, FailureReason
from ort_rknn_converters.compile.segment_compiler import SegmentCompiler
from ort_rknn_converters.onnx_file.tensor_types import FP16_MAX
from ort_rknn_converters.op_support.decide import boundary_reason
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Blame", "blame"]

_HOPELESS: frozenset[FailureReason] = frozenset({"timeout", "memory", "killed", "unverifiable"})
"""Failures that are not looked into: each try would take as long, or proves nothing."""

_OUT_OF_TIME = "not looked into further, for the search has taken its time"

_DIFFERENCES = frozenset({"Add", "Sub"})
_MEANS = frozenset(
    {
        "Expand",
        "GlobalAveragePool",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
    }
)
"""Operands that are cheap, and all of the difference."""


@frozen
class Blame:
    """Nodes that go to the CPU, and why.

    Attributes:
        reasons: Node name -> reason in words.
        certain: Those that would fail in any other model, too: worth remembering.
    """

    reasons: dict[str, str]
    certain: frozenset[str] = frozenset()


def blame(compiler: SegmentCompiler, attempt: Attempt) -> Blame:
    """Name the nodes that must leave a failed segment: at least one.

    Args:
        compiler: Where the segment failed; more is compiled there.
        attempt: The failed attempt.
    """
    failure = attempt.failure
    assert failure is not None
    if failure.nodes:
        return _named(failure)
    if failure.kind in _HOPELESS:
        return _all(attempt)
    if compiler.out_of_time:
        return Blame(dict.fromkeys(attempt.nodes, f"{failure.reason} ({_OUT_OF_TIME})"))
    found = _Search(compiler, failure).run(attempt.nodes)
    return _with_means(compiler, found) if failure.kind == "wrong" else found


def _with_means(compiler: SegmentCompiler, found: Blame) -> Blame:
    """With the means that a blamed difference takes away: rounded to fp16 they would spoil it on the CPU, too."""
    flow = compiler.flow
    number = {node.name or "": index for index, node in enumerate(flow.nodes)}
    more: dict[str, str] = {}
    for name, reason in found.reasons.items():
        waiting = list(flow.before[number[name]]) if flow.nodes[number[name]].op_type in _DIFFERENCES else []
        while waiting:
            index = waiting.pop()
            node = flow.nodes[index]
            if node.op_type in _MEANS and node.name not in more:
                more[node.name or ""] = f"{reason} (of which it is an operand)"
                waiting += flow.before[index]
    return Blame(more | found.reasons, found.certain)


def _named(failure: Failure) -> Blame:
    certain = frozenset(failure.nodes) if failure.certain else frozenset()
    return Blame(dict.fromkeys(failure.nodes, failure.reason) | dict(failure.reasons), certain)


def _all(attempt: Attempt) -> Blame:
    assert attempt.failure is not None
    return Blame(dict.fromkeys(attempt.nodes, attempt.failure.reason))


class _Search:
    """Bisection over the topological order of a segment's nodes."""

    def __init__(self, compiler: SegmentCompiler, failure: Failure) -> None:
        self.compiler = compiler
        self.last = failure
        self._first = failure
        self._peaks: dict[str, float] = {}
        self._number = {node.name or "": index for index, node in enumerate(compiler.flow.nodes)}

    def run(self, nodes: Sequence[str]) -> Blame:
        """Halve as long as one half fails by itself; then the trouble is an encounter of nodes of both halves."""
        left = 3 * math.ceil(math.log2(len(nodes) + 1)) + 2
        while len(nodes) > 1 and left > 0 and not self.compiler.out_of_time:
            middle = len(nodes) // 2
            left -= 2
            if self.fails(nodes[:middle]):
                nodes = nodes[:middle]
            elif self.fails(nodes[middle:]):
                nodes = nodes[middle:]
            else:
                return self._encounter(nodes, middle)
            if self.last.nodes:
                return _named(self.last)
        if len(nodes) == 1:
            certain = frozenset(nodes) if self.compiler.certain(nodes[0], self.last) else frozenset()
            return Blame({nodes[0]: self.last.reason} | self._overflows(nodes[0]), certain)
        return Blame(dict.fromkeys(nodes, self.last.reason))

    def _encounter(self, nodes: Sequence[str], passing: int) -> Blame:
        """The shortest beginning that fails ends with a node that must go: it does not bear what comes before it."""
        failing = len(nodes)
        while failing - passing > 1 and not self.compiler.out_of_time:
            middle = (passing + failing) // 2
            if not self.fails(nodes[:middle]):
                passing = middle
            elif self.last.nodes:
                return _named(self.last)
            else:
                failing = middle
        culprit = nodes[failing - 1]
        return Blame({culprit: f"{self.last.reason} (together with what comes before it)"} | self._overflows(culprit))

    def fails(self, nodes: Sequence[str]) -> bool:
        """Whether these nodes alone fail in the same way; no, where their edges would make a failure of their own."""
        nodes = self._closed(nodes)
        entering, leaving = self.compiler.edges_of(nodes)
        if not leaving or any(boundary_reason(value) for value in (*entering, *leaving)):
            return False
        attempt = self.compiler.attempt(nodes)
        self._peaks |= attempt.peaks or {}
        failure = attempt.failure
        if failure is None or not failure.like(self._first):
            return False
        self.last = failure
        return True

    def _closed(self, nodes: Sequence[str]) -> Sequence[str]:
        """The nodes with their constants and whole pairs of roundings only: else the cut, not a node, would fail."""
        flow, number = self.compiler.flow, self._number
        inside = {number[name] for name in nodes}
        for index in tuple(inside):
            if flow.nodes[index].op_type == "DequantizeLinear":
                inside.update(flow.before[index])
        for index in tuple(inside):
            if flow.nodes[index].op_type == "QuantizeLinear":
                back = set(flow.after[index])
                if back & inside:
                    inside |= back
                else:
                    inside.discard(index)
        for index in tuple(inside):
            inside.update(before for before in flow.before[index] if not flow.reads[before])
        idle = {index for index in inside if not flow.reads[index] and not inside.intersection(flow.after[index])}
        return [flow.nodes[index].name or "" for index in sorted(inside - idle)]

    def _overflows(self, culprit: str) -> dict[str, str]:
        """Finds every node that overflows where a wrong result is an overflow; they would come up one by one."""
        if self._first.kind != "wrong":
            return {}
        makers = {v.name: node.name for node in self.compiler.flow.nodes for v in node.outputs if v.name}
        over = {makers[name]: peak for name, peak in self._peaks.items() if peak > FP16_MAX and name in makers}
        if culprit not in over:
            return {}
        return {name or "": f"overflows fp16: reaches {peak:.3g} (limit {FP16_MAX:.0f})" for name, peak in over.items()}
