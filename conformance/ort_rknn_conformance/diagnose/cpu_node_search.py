"""The smallest set of nodes that must leave the NPU for a model to agree, found by trying."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ort_rknn_conformance.case import CaseError
from ort_rknn_conformance.result import CaseResult
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Fix", "find_fix"]

TRIALS = 40  # conversions at most: a minute or two for a small model (a guess)

Trial = Callable[[frozenset[str]], CaseResult]


@frozen
class Fix:
    """Result of the search.

    Attributes:
        nodes: Names of the nodes for the CPU; empty when nothing helped.
        result: The comparison with these on the CPU; the last one tried when nothing helped.
        trials: Conversions it took.
        smallest: Whether no group of them can be left out (else the search ended at its limit).
        options: Other options that cure it instead: layers in fp16, or all of it.
    """

    nodes: frozenset[str]
    result: CaseResult
    trials: int
    smallest: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cured(self) -> bool:
        """Whether something helped."""
        return bool(self.nodes or self.options)


@dataclass
class _Search:
    """Trials by set, so that none is made twice."""

    trial: Trial
    done: dict[frozenset[str], CaseResult] = field(default_factory=dict)

    def right(self, groups: Sequence[frozenset[str]]) -> bool:
        nodes = frozenset().union(*groups)
        if nodes not in self.done:
            self.done[nodes] = self.trial(nodes)
        return self.done[nodes].verdict == "right"

    @property
    def spent(self) -> bool:
        return len(self.done) >= TRIALS


def find_fix(groups: Sequence[frozenset[str]], trial: Trial) -> Fix:
    """Find the smallest set.

    The first groups are doubled until the model agrees, the number is then halved down, and what is left is tried
    without each of its groups.

    Args:
        groups: Nodes that leave the NPU together, most suspicious first.
        trial: Compares the model with these nodes on the CPU.
    """
    search = _Search(trial)
    if not groups:
        raise CaseError("nothing is on the NPU path that could be moved to the CPU")
    high = 1
    while not search.right(groups[:high]):
        if high >= len(groups):
            return Fix(frozenset(), list(search.done.values())[-1], len(search.done))
        high = min(2 * high, len(groups))
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if search.right(groups[:middle]):
            high = middle
        else:
            low = middle
    kept = list(groups[:high])
    for group in list(reversed(kept)):
        if search.spent:
            break
        without = [one for one in kept if one != group]
        if without and search.right(without):
            kept = without
    nodes = frozenset().union(*kept)
    return Fix(nodes, search.done[nodes], len(search.done), not search.spent)
