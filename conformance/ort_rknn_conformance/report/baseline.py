"""Compares a run with an earlier one: what got better, what got worse, what came and went."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ort_rknn_conformance.result import BAD, CaseResult
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Change", "Difference", "difference"]

FACTOR = 1.5
"""A relative RMS that grew or shrank by less is the same number (a guess: other onnxruntime versions sum in another
order, which moves errors by a few per cent)."""
FLOOR = 1e-6
"""Errors below this are float32's own noise and are not compared."""


@frozen
class Change:
    """One case that is not as it was.

    Attributes:
        case: Its name.
        what: Before and after, in words.
    """

    case: str
    what: str


@frozen
class Difference:
    """All that changed.

    Attributes:
        name: The earlier run's file and date.
        better: Cases that improved.
        worse: Cases that did not.
        other: Cases whose verdict changed to neither side (now unsupported, now skipped ...).
        new: Names of cases the earlier run did not have.
        gone: Names of cases only the earlier run had.
    """

    name: str
    better: tuple[Change, ...] = ()
    worse: tuple[Change, ...] = ()
    other: tuple[Change, ...] = ()
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return any((self.better, self.worse, self.other, self.new, self.gone))

    def __str__(self) -> str:
        """One line; ``no change`` where nothing did."""
        counts = {
            "better": len(self.better),
            "worse": len(self.worse),
            "changed": len(self.other),
            "new": len(self.new),
            "gone": len(self.gone),
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "no change"


def difference(before: Iterable[CaseResult], after: Iterable[CaseResult], name: str) -> Difference:
    """Compare two runs case by case: verdicts, nodes on the NPU, relative RMS of each output. Times do not count.

    Args:
        before: The earlier results.
        after: The results of now.
        name: How the earlier run is called in reports.
    """
    old = {result.case: result for result in before}
    new = {result.case: result for result in after}
    sides: dict[int, list[Change]] = {1: [], -1: [], 0: []}
    for case in sorted(old.keys() & new.keys()):
        found = _change(old[case], new[case])
        if found is not None:
            sides[found[0]].append(Change(case, found[1]))
    return Difference(
        name,
        better=tuple(sides[1]),
        worse=tuple(sides[-1]),
        other=tuple(sides[0]),
        new=tuple(sorted(new.keys() - old.keys())),
        gone=tuple(sorted(old.keys() - new.keys())),
    )


def _change(old: CaseResult, new: CaseResult) -> tuple[int, str] | None:
    """1 for better, -1 for worse, 0 for other, and the words; ``None`` for no change."""
    if old.verdict != new.verdict:
        side = (_rank(new) > _rank(old)) - (_rank(new) < _rank(old))
        return side, f"{old.verdict} → {new.verdict}" + (f": {new.message}" if new.message else "")
    if old.npu_nodes != new.npu_nodes:
        side = 1 if new.npu_nodes > old.npu_nodes else -1
        return side, f"{old.npu_nodes} → {new.npu_nodes} nodes on the NPU"
    was = {output.name: output.rel_rms for output in old.outputs}
    moved = [
        (output.name, was[output.name], output.rel_rms)
        for output in new.outputs
        if output.name in was and _differs(was[output.name], output.rel_rms)
    ]
    if not moved:
        return None
    # the worst side speaks for the case
    name, before, after = max(moved, key=lambda row: math.inf if math.isnan(row[2]) else row[2] - row[1])
    return (-1 if not after <= before else 1), f"{name}: relative RMS {before:.2g} → {after:.2g}"


def _rank(result: CaseResult) -> int:
    if result.verdict in BAD:
        return 0
    return 2 if result.verdict == "right" else 1


def _differs(before: float, after: float) -> bool:
    if math.isnan(before) or math.isnan(after):
        return math.isnan(before) != math.isnan(after)
    low, high = sorted((before, after))
    return high > FLOOR and high > FACTOR * low
