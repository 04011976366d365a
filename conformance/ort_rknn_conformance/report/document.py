"""Parts of every written report: the run's header, its results, and the difference to an earlier run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ort_rknn_conformance.report.baseline import Difference
from ort_rknn_conformance.result import BAD, CaseResult, Verdict
from ort_rknn_converters.util.frozen import frozen

__all__ = ["MEANINGS", "Document"]

MEANINGS: Mapping[Verdict, str] = {
    "right": "agrees with CPU onnxruntime",
    "wrong": "differs from CPU onnxruntime",
    "error": "our session raised",
    "crashed": "the process died",
    "timeout": "no answer within the time limit",
    "unsupported": "CPU onnxruntime cannot run it: nothing to compare",
    "skipped": "left out by the flow, with a reason",
    "xfailed": "fails as the flow says",
    "xpassed": "passes although the flow says it fails",
}
"""The verdicts in the order reports list them."""


@frozen
class Document:
    """A whole run.

    Attributes:
        title: What was looked at: a model's name, or the standard's cases.
        head: The JSON report's header.
        results: Every result.
        seconds: Wall time.
        difference: Against the run of ``--baseline``; ``None`` without one.
    """

    title: str
    head: Mapping[str, Any]
    results: tuple[CaseResult, ...]
    seconds: float
    difference: Difference | None = None

    @property
    def counts(self) -> Counter[Verdict]:
        """Verdict -> number of cases."""
        return Counter(result.verdict for result in self.results)

    @property
    def bad(self) -> list[CaseResult]:
        """The results that fail the run."""
        return [result for result in self.results if result.verdict in BAD]

    @property
    def on_npu(self) -> int:
        """Right cases with at least one node on the NPU path."""
        return sum(result.verdict == "right" and result.npu_nodes > 0 for result in self.results)

    @property
    def setting(self) -> str:
        """One line: SoC, precision and what ran it."""
        return f"{self.head['target']}, {self.head['precision']}, {self.head['about']}"
