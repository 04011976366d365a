"""Nodes that are like one at fault: they follow it to the CPU instead of being found one by one.

A network repeats its layers, and each search compiles large parts again. What the compiler does with a node follows
from its op, attributes and shapes; small constants (which row a Gather takes) rarely matter, so there one more try of a
single node decides for all.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property

from ort_rknn_converters.compile.attempt import FailureReason
from ort_rknn_converters.compile.fault_isolation import Blame
from ort_rknn_converters.compile.known_failures import signature
from ort_rknn_converters.compile.segment_compiler import SegmentCompiler
from ort_rknn_converters.op_support.decide import boundary_reason
from ort_rknn_converters.util.frozen import replace

__all__ = ["Twins"]

_OF_THE_NODE: frozenset[FailureReason] = frozenset({"refused", "crashed", "unplaced", "register"})
"""Failures that follow from op, attributes and shapes. A wrong result may come from the weights, or from the inputs."""

_ENOUGH = 2
"""Equal nodes that fail together with what comes before them, until all such nodes follow. A guess."""


class Twins:
    """The nodes of one model by what they are.

    Args:
        compiler: Where single nodes are tried.
    """

    def __init__(self, compiler: SegmentCompiler) -> None:
        self._compiler = compiler
        self._encounters: Counter[str] = Counter()

    @cached_property
    def _exact(self) -> dict[str, str]:
        return {node.name or "": signature(node, self._compiler.model) for node in self._compiler.flow.nodes}

    @cached_property
    def _alike(self) -> dict[str, str]:
        model = self._compiler.model
        return {node.name or "": signature(node, model, contents=False) for node in self._compiler.flow.nodes}

    def follow(self, found: Blame, kind: FailureReason) -> Blame:
        """The verdict with the nodes that share it.

        Args:
            found: Which nodes go to the CPU.
            kind: How the part they are in failed.
        """
        if kind not in _OF_THE_NODE:
            return found
        reasons, certain = dict(found.reasons), set(found.certain)
        for name, reason in found.reasons.items():
            if name in found.certain:
                twins = self._twins(name, reasons)
                certain.update(twins)
            else:
                twins = self._after_encounters(name, reasons)
            reasons |= dict.fromkeys(twins, reason)
        return replace(found, reasons=reasons, certain=frozenset(certain))

    def _twins(self, name: str, known: dict[str, str]) -> list[str]:
        """Equal nodes; and those of other small constants, if one of them alone fails as well."""
        others = [node for node in self._compiler.placed if node not in known]
        equal = [node for node in others if self._exact[node] == self._exact[name]]
        alike = [node for node in others if self._alike[node] == self._alike[name] and node not in equal]
        if alike and self._fails(alike[0]):
            equal += alike
        return equal

    def _after_encounters(self, name: str, known: dict[str, str]) -> list[str]:
        sort = self._exact[name]
        self._encounters[sort] += 1
        if self._encounters[sort] < _ENOUGH:
            return []
        return [node for node in self._compiler.placed if node not in known and self._exact[node] == sort]

    def _fails(self, name: str) -> bool:
        entering, leaving = self._compiler.edges_of([name])
        if not leaving or any(boundary_reason(value) for value in (*entering, *leaving)):
            return False
        failure = self._compiler.attempt([name]).failure
        return failure is not None and failure.kind in _OF_THE_NODE
