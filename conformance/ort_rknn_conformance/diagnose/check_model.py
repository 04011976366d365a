"""One model in full: the comparison, then where the error begins, then what cures it, as far as was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from ort_rknn_conformance.case import Case, CaseError, Settings
from ort_rknn_conformance.diagnose.cpu_node_search import Fix, find_fix
from ort_rknn_conformance.diagnose.layer_errors import find_layers
from ort_rknn_conformance.flows import MIXED, Flow
from ort_rknn_conformance.result import CaseResult
from ort_rknn_conformance.run.run_case import execute
from ort_rknn_converters.util.frozen import frozen, replace
from ort_rknn_converters.util.temp_dirs import temporary

__all__ = ["Examined", "examine"]

SHARES = (1.0, 0.2)
"""Errors promised to int8 one after the other, as shares of ``mixed``'s or of the user's own limit. A guess."""

FEW = 4
"""One in so many of a quantized model's nodes may go to the CPU before fp16 is the better cure. A guess."""


@frozen
class Examined:
    """Result of :func:`examine`.

    Attributes:
        result: The comparison, with ``layers`` where they were asked for.
        fix: What makes the model agree; ``None`` when not asked for, or when there is nothing to make.
        vendor_missing: Why the vendor's analysis is not among the layers; empty when it is, or was not asked for.
    """

    result: CaseResult
    fix: Fix | None = None
    vendor_missing: str = ""


def examine(case: Case, flow: Flow, settings: Settings, *, layers: bool = False, fix: bool = False) -> Examined:
    """Compare a model, and look into it.

    Args:
        case: The model and its samples.
        flow: What runs the NPU part.
        settings: SoC, precision, tolerance.
        layers: Measure every node on the NPU path.
        fix: Find what makes the model agree, if it does not: for int8 layers in fp16, else the smallest set of nodes
            that must leave the NPU. What the trials compile is gone afterwards.

    Raises:
        CaseError: CPU onnxruntime cannot run it, or its layers cannot be had.
    """
    result = execute(case, flow, replace(settings, closely=settings.closely or layers or fix))
    if result.verdict == "unsupported":
        raise CaseError(f"{case.name}: {result.message}")
    fix = fix and result.verdict == "wrong" and result.npu_nodes > 0
    if not (layers or fix) or not result.graph:
        return Examined(result)
    with temporary("ort-rknn-trials-") as folder:
        trials = replace(settings, cache_dir=str(folder), closely=False)
        cure = _by_precision(case, flow, trials) if fix else None
        if cure is not None and not layers:
            return Examined(result, cure)
        found = find_layers(case, flow, settings, result.graph, vendor=layers)
        result = replace(result, layers=found.rows)
        if fix and cure is None:
            cure = _by_nodes(case, flow, trials, found.groups)
            result = replace(result, cure=tuple(sorted(cure.nodes)))
    return Examined(result, cure, found.vendor_missing)


def _by_precision(case: Case, flow: Flow, settings: Settings) -> Fix | None:
    """The least change of precision inside the NPU that cures an int8 model: some layers in fp16."""
    if settings.precision not in ("int8", "mixed") or flow.refusal(settings.target, "mixed"):
        return None
    limit = MIXED["max_loss"] if settings.tolerance is None else min(MIXED["max_loss"], settings.tolerance)
    for number, share in enumerate(SHARES, 1):
        options = {"max_loss": share * limit, "metric": "rel-rms"}
        result = execute(case, flow, replace(settings, options=options))
        if result.verdict == "right":
            return Fix(frozenset(), result, number, options=options)
    return None


def _by_nodes(case: Case, flow: Flow, settings: Settings, groups: Sequence[frozenset[str]]) -> Fix:
    """The smallest set of nodes for the CPU; where that is a large part of a quantized model, fp16 for all of it."""

    def trial(nodes: frozenset[str]) -> CaseResult:
        return execute(case, flow, replace(settings, cpu_nodes=settings.cpu_nodes | nodes))

    if settings.precision == "fp16":
        return find_fix(groups, trial)
    cure = find_fix(groups[: max(1, len(groups) // FEW)], trial)
    if cure.cured:
        return cure
    whole = execute(case, flow, replace(settings, precision="fp16"))
    if whole.verdict == "right":
        return Fix(frozenset(), whole, cure.trials + 1, options={"precision": "fp16"})
    return replace(cure, trials=cure.trials + 1)
