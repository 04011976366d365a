"""Shows what a verdict rests on, and what it leaves open: groups of channels, tolerances, feeds, devices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.table import Table

from ort_rknn_conformance.flows import Flow
from ort_rknn_conformance.result import CaseResult, GroupResult, OutputResult
from ort_rknn_conformance.run.tolerances import meaning
from ort_rknn_converters.util.foreign_text import in_markup

__all__ = ["group_rows", "group_table", "left_open"]

FEW = 20
"""Samples below which a share of right labels says little. A guess."""


def group_rows(outputs: Sequence[OutputResult]) -> Iterator[tuple[OutputResult, GroupResult]]:
    """The groups of all outputs, those of the largest values first."""
    for output in outputs:
        for group in sorted(output.groups, key=lambda one: -one.peak):
            yield output, group


def group_table(outputs: Sequence[OutputResult]) -> Table:
    """The groups as a table; the worst decides."""
    table = Table(title="channels and columns of other sizes, each judged by itself", title_justify="left")
    for heading in ("output", "axis", "indices", "values up to", "rel. RMS", "tolerance", "verdict"):
        table.add_column(heading, justify="left" if heading in ("output", "indices", "verdict") else "right")
    for output, group in group_rows(outputs):
        size = "-" if math.isnan(group.rel_rms) else f"{group.rel_rms:.2e}"
        verdict = f"[green]ok[/]{f': {in_markup(group.note)}' if group.note else ''}" if group.ok else "[red]off[/]"
        table.add_row(
            in_markup(output.name),
            str(group.axis),
            group.indices,
            f"{group.peak:.3g}",
            size,
            f"{group.tolerance:g}",
            verdict,
        )
    return table


def left_open(result: CaseResult, flow: Flow, *, random: bool) -> Iterator[str]:
    """Sentences on what a PASS does not say.

    Args:
        result: Which passed.
        flow: What ran it.
        random: Whether the feeds were random ones.
    """
    floating = [output for output in result.outputs if output.tolerance]
    if floating:
        limit = max(output.tolerance for output in floating)
        yield f"Within the tolerance of {limit:g}, {meaning(limit)}."
    if random:
        were = "sample was" if result.samples == 1 else "samples were"
        yield f"The {result.samples} {were} random: it says nothing of real inputs. Give some (--data)."
    elif not result.accuracy:
        yield "It does not say that decisions are right: give the right classes (--labels) where the model classifies."
    elif result.samples < FEW:
        yield f"{result.samples} samples are few for the share of right labels."
    if any(group.note for output in result.outputs for group in output.groups):
        yield "Some channels hold too little to be judged; the table says which."
    if flow.name not in ("npu", "lite"):
        yield "It was computed here, not on a board."
