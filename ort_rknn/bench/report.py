"""Shows the results of a benchmark: as tables for people, as JSON for programs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ort_rknn.bench.measure import Pass
from ort_rknn_converters.util.foreign_text import in_markup
from ort_rknn_converters.util.frozen import frozen

__all__ = [
    "PartTime",
    "latencies_ms",
    "limited_by_this_computer",
    "part_times",
    "parts_table",
    "pass_to_dict",
    "percentile",
    "print_report",
]

PERCENTILES = (95.0, 99.0)
"""Shown when nothing else is asked for: as other NPU runtimes do."""

MOSTLY = 0.1
"""Share of simulated inferences that may take longer than the pretended latency before that is said. A guess."""


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that ``share`` percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)]


def latencies_ms(measured: Pass, percentiles: Sequence[float] = PERCENTILES) -> dict[str, float]:
    """Milliseconds by name: ``median``, ``mean``, ``p95`` ..., ``min``, ``max``; empty when nothing succeeded."""
    values = [1000 * seconds for seconds in measured.latencies]
    if not values:
        return {}
    found = {"median": statistics.median(values), "mean": statistics.fmean(values)}
    found |= {f"p{share:g}": percentile(values, share) for share in percentiles}
    return found | {"min": min(values), "max": max(values)}


@frozen
class PartTime:
    """Time of a part of the model: a segment, or a node where onnxruntime runs the whole.

    Attributes:
        name: Its name.
        provider: Who ran it.
        count: How often.
        mean_ms: Milliseconds each time.
        share: Of the time of all parts.
    """

    name: str
    provider: str
    count: int
    mean_ms: float
    share: float


def part_times(events: Sequence[Any]) -> list[PartTime]:
    """The parts of a profile, those that took most first."""
    taken: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time"):
            key = str(event["name"]).removesuffix("_kernel_time"), str(event["args"].get("provider", ""))
            taken.setdefault(key, []).append(event["dur"] / 1000)
    whole = sum(map(sum, taken.values())) or 1.0
    rows = (
        PartTime(name, provider, len(times), statistics.fmean(times), sum(times) / whole)
        for (name, provider), times in taken.items()
    )
    return sorted(rows, key=lambda row: -row.share)


def parts_table(rows: Sequence[PartTime]) -> Table:
    """Draws the times of the parts as a table."""
    table = Table(box=None, pad_edge=False)
    for title in ("part", "run by", "count", "mean", "share"):
        table.add_column(title, justify="left" if title in ("part", "run by") else "right")
    for row in rows:
        provider = row.provider.removesuffix("ExecutionProvider")
        table.add_row(in_markup(row.name), provider, str(row.count), f"{row.mean_ms:.3f} ms", f"{row.share:.1%}")
    return table


def pass_to_dict(measured: Pass, percentiles: Sequence[float] = PERCENTILES) -> dict[str, Any]:
    """One pass as plain data, numbers as numbers."""
    return {
        "api": measured.api,
        "jobs": measured.jobs,
        "asked": measured.asked,
        "completed": measured.completed,
        "duration_s": measured.seconds,
        "throughput_per_s": measured.throughput,
        "latency_ms": latencies_ms(measured, percentiles),
        "cores": [
            {"core": use.core, "contexts": use.contexts, "inferences": use.inferences, "utilisation": use.busy}
            for use in measured.cores
        ],
        "error": measured.error,
    }


def print_report(
    console: Console, passes: Sequence[Pass], first_s: float, percentiles: Sequence[float], per_core: bool
) -> None:
    """Print one column a pass, the cores if wanted, a line for each pass and the count of what was completed."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for measured in passes:
        flying = f", {measured.jobs} in flight" if measured.api == "async" else ""
        table.add_column(f"{measured.api}{flying}", justify="right")
    table.add_row("First inference", *[f"{1000 * first_s:.3f} ms"] * len(passes))
    for name, cells in _rows(passes, percentiles):
        table.add_row(name, *cells)
    console.print(table)
    if per_core:
        console.print(_core_table(passes))
    for measured in passes:
        if measured.error:
            failed = measured.asked - measured.completed
            console.print(f"{failed} failed, the first with: {in_markup(measured.error)}", soft_wrap=True)
        each = 1000 * measured.seconds / max(1, measured.asked)
        line = f"[INFO] {measured.api} infer pass: {1000 * measured.seconds:.3f} ms ({each:.3f} ms/frame)"
        console.print(in_markup(line), soft_wrap=True)
    worst = min(passes, key=lambda measured: measured.completed - measured.asked)
    console.print(f"Batches completed: {worst.completed} / {worst.asked}", soft_wrap=True)


def limited_by_this_computer(contexts: Iterable[Mapping[str, Any]]) -> str:
    """Sentence that says when a simulator's figures are those of this computer's arithmetic; empty when they are not.

    Args:
        contexts: What the session's contexts say of themselves.
    """
    simulated = [facts for facts in contexts if facts.get("device") == "simulator"]
    runs, late = (sum(int(facts.get(name, 0)) for facts in simulated) for name in ("runs", "late"))
    if not runs:
        return ""
    latency = max(float(facts.get("latency_s", 0.0)) for facts in simulated)
    if not latency:
        return (
            "Simulated: these are the times of this computer's arithmetic and say nothing of an NPU."
            " --simulator-latency-ms pretends one's"
        )
    if late <= MOSTLY * runs:
        return ""
    return (
        f"Simulated, and this computer was too slow: {late} of {runs} inferences took its arithmetic longer than the"
        f" {1000 * latency:g} ms pretended. The figures are those of this computer, not of an NPU of that latency"
    )


def _rows(passes: Sequence[Pass], percentiles: Sequence[float]) -> Iterator[tuple[str, list[str]]]:
    yield "Count", [f"{measured.completed} inferences" for measured in passes]
    yield "Duration", [f"{1000 * measured.seconds:.2f} ms" for measured in passes]
    found = [latencies_ms(measured, percentiles) for measured in passes]
    for name in max(found, key=len):
        yield f"Latency {name}", [f"{times[name]:.3f} ms" if name in times else "-" for times in found]
    yield "Throughput", [f"{measured.throughput:.2f} /s" for measured in passes]
    if any(measured.cores for measured in passes):
        yield "Utilisation", [_mean_use(measured) for measured in passes]


def _mean_use(measured: Pass) -> str:
    if not measured.cores:
        return "-"
    return f"{statistics.fmean(use.busy for use in measured.cores):.1%} of {len(measured.cores)} core(s)"


def _core_table(passes: Sequence[Pass]) -> Table | str:
    if not any(measured.cores for measured in passes):
        return "No core to show: the model has no NPU part here."
    table = Table(box=None, pad_edge=False)
    for title in ("core", "pass", "contexts", "inferences", "utilisation"):
        table.add_column(title, justify="left" if title in ("core", "pass") else "right")
    for measured in passes:
        for use in measured.cores:
            core = "any" if use.core < 0 else str(use.core)
            table.add_row(core, measured.api, str(use.contexts), str(use.inferences), f"{use.busy:.1%}")
    return table
