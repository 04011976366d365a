"""The smallest set of nodes that must leave the NPU for a model to agree, found by trying, and its options file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ort_rknn_conformance.case import Case, CaseError, Settings
from ort_rknn_conformance.result import CaseResult
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Fix", "find_fix", "write_options"]

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
    """

    nodes: frozenset[str]
    result: CaseResult
    trials: int
    smallest: bool = True


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


def write_options(path: str | Path, fix: Fix, case: Case, settings: Settings) -> None:
    """Write the options that cure the model, as TOML.

    ``ort-rknn convert --options FILE`` takes it, and so does a program through the environment variable
    ``ORT_RKNN_CONFIG``.

    Raises:
        CaseError: The file cannot be written.
    """
    lines = [
        f"# Found by ort-rknn check --fix on {case.name}: these nodes are not precise enough on the NPU.",
        f"target = {json.dumps(settings.target)}",
        f"precision = {json.dumps(settings.precision)}",
        f"cpu_nodes = {json.dumps(sorted(fix.nodes), ensure_ascii=False)}",
    ]
    if case.shapes:
        lines += ["", "[shapes]", *(f"{json.dumps(name)} = {list(dims)}" for name, dims in case.shapes.items())]
    try:
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise CaseError(f"{path} cannot be written: {error.strerror}") from error
