"""One model in full: the comparison, then where the error begins, then what cures it, as far as was asked for."""

from __future__ import annotations

from dataclasses import replace

from ort_rknn_conformance.case import Case, CaseError, Settings
from ort_rknn_conformance.diagnose.cpu_node_search import Fix, find_fix
from ort_rknn_conformance.diagnose.layer_errors import find_layers
from ort_rknn_conformance.flows import Flow
from ort_rknn_conformance.result import CaseResult
from ort_rknn_conformance.run.run_case import execute
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Examined", "examine"]


@frozen
class Examined:
    """Result of :func:`examine`.

    Attributes:
        result: The comparison, with ``layers`` where they were asked for.
        fix: The nodes to keep on the CPU; ``None`` when not asked for, or when the model agrees as it is.
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
        fix: Find the smallest set of nodes that must leave the NPU, if the model does not agree.

    Raises:
        CaseError: CPU onnxruntime cannot run it, or its layers cannot be had.
    """
    result = execute(case, flow, replace(settings, closely=settings.closely or layers or fix))
    if result.verdict == "unsupported":
        raise CaseError(f"{case.name}: {result.message}")
    if not (layers or (fix and result.verdict == "wrong")) or not result.graph:
        return Examined(result)
    found = find_layers(case, flow, settings, result.graph, vendor=layers)
    result = replace(result, layers=found.rows)
    if not fix or result.verdict != "wrong":
        return Examined(result, vendor_missing=found.vendor_missing)

    def trial(nodes: frozenset[str]) -> CaseResult:
        return execute(case, flow, replace(settings, cpu_nodes=settings.cpu_nodes | nodes, closely=False))

    cure = find_fix(found.groups, trial)
    return Examined(replace(result, cure=tuple(sorted(cure.nodes))), cure, found.vendor_missing)
