"""A run as Markdown, for issues, pull requests and job summaries."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from ort_rknn_conformance.report.baseline import Change
from ort_rknn_conformance.report.document import MEANINGS, Document
from ort_rknn_conformance.report.judgement import group_rows
from ort_rknn_conformance.result import BAD, CaseResult, LayerError
from ort_rknn_converters.util.foreign_text import code, markdown
from ort_rknn_converters.util.own_files import write_given

__all__ = ["render", "write"]

_LONGEST = 2000  # characters of a message or a reason
LISTED = 50  # rows of a list that can be long; the JSON has them all


def write(path: str | Path, document: Document) -> None:
    """Write the file.

    Raises:
        OSError: It cannot be written.
    """
    write_given(path, render(document))


def render(document: Document) -> str:
    """The report as text."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Document) -> Iterator[str]:
    bad = document.bad
    yield f"# {_cell(document.title)}: {f'{len(bad)} bad' if bad else 'all good'}"
    yield ""
    yield f"{_cell(document.setting)}. {len(document.results)} cases in {document.seconds:.0f} s."
    yield ""
    yield from _table(
        ("verdict", "cases", "meaning"),
        (
            (verdict, str(document.counts[verdict]), meaning)
            for verdict, meaning in MEANINGS.items()
            if document.counts[verdict]
        ),
    )
    yield f"{document.on_npu} of the right ones had nodes on the NPU path."
    if document.difference is not None:
        yield from ("", f"## Against {_cell(document.difference.name)}: {document.difference}", "")
        for name, changes in (
            ("worse", document.difference.worse),
            ("better", document.difference.better),
            ("changed", document.difference.other),
        ):
            yield from _changes(name, changes)
    if bad and len(document.results) > 1:
        yield from ("", "## Bad cases", "")
        yield from _table(
            ("case", "verdict", "why"),
            ((code(result.case), result.verdict, result.message) for result in bad[:LISTED]),
        )
        if len(bad) > LISTED:
            yield f"and {len(bad) - LISTED} more."
    if len(document.results) == 1:
        yield from _one(document.results[0])
    yield from ("", "## Versions", "")
    yield from _table(("what", "version"), ((name, str(said)) for name, said in document.head["versions"].items()))
    yield f"{document.head['machine']}."


def _one(result: CaseResult) -> Iterator[str]:
    """A single model in full."""
    if result.verdict in BAD:
        yield from ("", f"**{result.verdict}**: {_cell(result.message)}")
    yield from ("", f"{result.npu_nodes} of {result.nodes} nodes on the NPU path, {result.samples} samples.", "")
    yield from _table(
        (
            "output",
            "type",
            "max abs",
            "mean abs",
            "max rel",
            "rel. RMS",
            "tolerance",
            "SQNR dB",
            "cosine",
            "top-1",
            "ok",
        ),
        (
            (
                code(output.name),
                f"{output.dtype} {list(output.shape)}",
                *(_number(value) for value in (output.max_abs, output.mean_abs, output.max_rel, output.rel_rms)),
                f"{output.tolerance:g}",
                _number(output.sqnr_db, ".1f"),
                _number(output.cosine, ".6f"),
                "-" if output.top1 is None else f"{output.top1:.2%}",
                "yes" if output.ok else f"**no**: {output.why}",
            )
            for output in result.outputs
        ),
    )
    if any(output.groups for output in result.outputs):
        yield from _table(
            ("output", "channels or columns", "values up to", "rel. RMS", "tolerance", "ok"),
            (
                (
                    code(output.name),
                    f"{group.indices} of axis {group.axis}",
                    f"{group.peak:.3g}",
                    _number(group.rel_rms),
                    f"{group.tolerance:g}",
                    f"yes{f': {group.note}' if group.note else ''}" if group.ok else "**no**",
                )
                for output, group in group_rows(result.outputs)
            ),
        )
    if result.accuracy:
        yield from _table(
            ("right labels", "CPU onnxruntime", "ours"),
            (
                (k, f"{result.accuracy[f'cpu_{k}']:.2%}", f"{result.accuracy[k]:.2%}")
                for k in ("top1", "top5")
                if k in result.accuracy
            ),
        )
    if result.cpu_reasons:
        yield from _table(
            ("nodes on the CPU", "why"), ((str(count), reason) for reason, count in result.cpu_reasons.items())
        )
    if result.layers:
        yield from ("", "## Layers, worst first", "")
        yield from _table(
            ("node", "op", "alone", "entire", "vendor alone", "vendor entire", "peak", "advice"),
            (
                (
                    code(row.node),
                    row.op_type,
                    *("-" if size is None else _number(size) for size in _sizes(row)),
                    _number(row.peak, ".3g"),
                    row.advice,
                )
                for row in result.layers[:LISTED]
            ),
        )


def _sizes(row: LayerError) -> tuple[float | None, ...]:
    return row.own, row.entire, row.vendor_own, row.vendor_entire


def _changes(name: str, changes: tuple[Change, ...]) -> Iterator[str]:
    if changes:
        yield from _table((name, "what"), ((code(change.case), change.what) for change in changes[:LISTED]))


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{' --- |' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(_cell(cell) for cell in row)} |"
    yield ""


def _cell(text: str) -> str:
    """A cell: what is code already is, everything else is text and no markup."""
    return text if text.startswith("`") and text.endswith("`") and text.count("`") == 2 else markdown(text, _LONGEST)


def _number(value: float, form: str = ".2e") -> str:
    return "-" if math.isnan(value) else format(value, form)
