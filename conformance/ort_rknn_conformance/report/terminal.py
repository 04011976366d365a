"""The report a person reads first: tables in the terminal that fit 80 columns."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ort_rknn_conformance.diagnose.cpu_node_search import Fix
from ort_rknn_conformance.flows import Flow
from ort_rknn_conformance.report.baseline import Difference
from ort_rknn_conformance.report.document import MEANINGS
from ort_rknn_conformance.report.judgement import group_table, left_open
from ort_rknn_conformance.result import BAD, CaseResult, LayerError, OutputResult, WorstElement
from ort_rknn_converters.util.foreign_text import in_markup, lines_in_markup

__all__ = ["print_case", "print_difference", "print_fix", "print_layers", "print_run"]

LISTED = 20  # bad cases named in the terminal; all are in the JSON


def print_case(
    console: Console, result: CaseResult, flow: Flow, *, target: str, precision: str, random: bool = False
) -> None:
    """One case in full: where it ran, every output's errors, the verdict, and what that leaves open.

    Args:
        console: Where to.
        result: The case.
        flow: What ran it.
        target: SoC.
        precision: Of the NPU parts.
        random: Whether the feeds were random ones.
    """
    console.print(f"[bold]{in_markup(result.case)}[/]  {target}, {precision}, {in_markup(flow.about)}")
    if result.nodes:
        console.print(f"{result.npu_nodes} of {result.nodes} nodes on the NPU path, {result.samples} samples")
        for reason, count in sorted(result.cpu_reasons.items(), key=lambda item: -item[1]):
            console.print(f"  CPU: {count} x {in_markup(reason)}")
    if result.outputs:
        per_table = max(1, (console.width - 16) // 26)
        for start in range(0, len(result.outputs), per_table):
            console.print(_error_table(result.outputs[start : start + per_table]))
        if any(output.groups for output in result.outputs):
            console.print(group_table(result.outputs))
        worst = [(output, element) for output in result.outputs for element in output.worst]
        if worst:
            console.print(_worst_table(worst))
    for k in ("top1", "top5"):
        if k in result.accuracy:
            ours, cpu = result.accuracy[k], result.accuracy[f"cpu_{k}"]
            console.print(f"right label, {k}: {ours:.2%} (CPU onnxruntime {cpu:.2%})")
    if result.verdict == "right" and not result.npu_nodes:
        console.print("[bold yellow]PASS[/] but nothing ran on the NPU path: this compared CPU onnxruntime with itself")
        from ort_rknn_converters.pipeline.advice import BY_COST_RULE

        if any(reason.startswith(BY_COST_RULE) for reason in result.cpu_reasons):
            console.print("--min-gain 0 sends to the NPU all that can go there")
    elif result.verdict == "right":
        console.print("[bold green]PASS[/] agrees with CPU onnxruntime within the tolerance")
        for sentence in left_open(result, flow, random=random):
            console.print(f"  {lines_in_markup(sentence)}", highlight=False)
    else:
        console.print(f"[bold red]FAIL[/] {lines_in_markup(result.message)}", highlight=False)


def print_run(console: Console, results: Sequence[CaseResult], flow: Flow, *, seconds: float) -> None:
    """Many cases: counts, and the bad ones by name."""
    counts = Counter(result.verdict for result in results)
    on_npu = sum(result.verdict == "right" and result.npu_nodes > 0 for result in results)
    table = Table(title=f"{len(results)} cases in {seconds:.0f} s ({in_markup(flow.about)})", title_justify="left")
    table.add_column("verdict")
    table.add_column("cases", justify="right")
    table.add_column("meaning")
    for verdict, meaning in MEANINGS.items():
        if counts[verdict] or verdict in ("right", "wrong", "crashed", "unsupported"):
            if verdict == "right":
                meaning = f"{meaning} ({on_npu} with NPU nodes, {counts[verdict] - on_npu} on the CPU alone)"
            colour = "green" if verdict == "right" else "red" if verdict in BAD and counts[verdict] else "dim"
            table.add_row(f"[{colour}]{verdict}[/]", str(counts[verdict]), meaning)
    console.print(table)
    bad = [result for result in results if result.bad]
    for result in bad[:LISTED]:
        console.print(
            f"[red]{result.verdict}[/] {in_markup(result.case)}: {lines_in_markup(result.message)}", highlight=False
        )
    if len(bad) > LISTED:
        console.print(f"... and {len(bad) - LISTED} more (--json lists all)")


def print_difference(console: Console, difference: Difference) -> None:
    """Prints what changed since an earlier run."""
    console.print(f"against {in_markup(difference.name)}: [bold]{difference}[/]")
    kinds = (
        ("worse", "red", difference.worse),
        ("better", "green", difference.better),
        ("now", "dim", difference.other),
    )
    for kind, colour, changes in kinds:
        for change in changes[:LISTED]:
            console.print(f"  [{colour}]{kind}[/] {in_markup(change.case)}: {in_markup(change.what)}")
        if len(changes) > LISTED:
            console.print(f"  ... and {len(changes) - LISTED} more (--json and --html list all)")


def print_layers(console: Console, layers: Sequence[LayerError], vendor_missing: str = "") -> None:
    """The nodes on the NPU path, worst first, and what to do about those that are off."""
    asked = any(row.vendor_own is not None for row in layers)
    table = Table(title="layers, worst first: relative RMS alone, and with all before", title_justify="left")
    columns = ("node", "op", "alone", "entire", *(("vendor alone", "vendor entire") if asked else ()), "peak")
    for heading in columns:
        table.add_column(heading, justify="left" if heading in ("node", "op") else "right", overflow="fold")
    room = max(16, console.width - 11 * len(columns) - 6)
    for row in layers[:LISTED]:
        sizes = (row.own, row.entire, *((row.vendor_own, row.vendor_entire) if asked else ()))
        numbers = ["-" if size is None else _number(size, ".1e") for size in sizes]
        table.add_row(in_markup(_end(row.node, room)), in_markup(row.op_type), *numbers, f"{row.peak:.3g}")
    console.print(table)
    if len(layers) > LISTED:
        console.print(f"... and {len(layers) - LISTED} more (--json lists all)")
    if asked:
        console.print("vendor: rknn-toolkit2's accuracy analysis on its simulator, by its own layers")
    if vendor_missing:
        console.print(f"no accuracy analysis by the vendor: {in_markup(vendor_missing)}", highlight=False)
    for row in [row for row in layers if row.advice][:LISTED]:
        console.print(f"[yellow]{in_markup(row.node)}[/] {in_markup(row.advice)}", highlight=False)


def _end(name: str, room: int) -> str:
    """A long name's end, which tells more than its beginning."""
    return name if len(name) <= room else f"…{name[1 - room :]}"


def print_fix(console: Console, fix: Fix | None, path: str, model: str, result: CaseResult) -> None:
    """Prints what makes the model agree, and the command that does it.

    Args:
        console: Where to.
        fix: What was found; ``None``: nothing was looked for.
        path: The options file.
        model: The ONNX file to convert.
        result: The comparison without it.
    """
    if fix is None:
        why = "the model agrees as it is" if result.verdict == "right" else "no node of it is on the NPU path"
        console.print(
            f"nothing to fix: {why if result.verdict != 'error' else 'it did not run'}; {in_markup(path)} is not"
            " written"
        )
        return
    if not fix.cured:
        console.print(f"[red]no cure[/] in {fix.trials} trials: {in_markup(fix.result.message)}")
        return
    if fix.nodes:
        least = "none of them can be left out" if fix.smallest else "perhaps fewer would do"
        options = " ".join(f"--cpu-node {shlex.quote(name)}" for name in sorted(fix.nodes))
        how = f"{len(fix.nodes)} on the CPU ({least}, {fix.trials} trials): {options}"
    else:
        said = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in fix.options.items())
        how = f"{said} ({fix.trials} trials)"
    console.print(f"[green]cured[/] with {in_markup(how)}")
    command = f"ort-rknn convert {shlex.quote(model)} --options {shlex.quote(path)}"
    console.print(f"written to {in_markup(path)}: {in_markup(command)}", highlight=False, soft_wrap=True)


def print_models(console: Console, results: Sequence[CaseResult]) -> None:
    """A folder of models, one a line."""
    table = Table(title="models", title_justify="left")
    for heading in ("model", "verdict", "NPU nodes", "rel. RMS", "seconds"):
        table.add_column(heading, justify="left" if heading in ("model", "verdict") else "right", overflow="fold")
    for result in sorted(results, key=lambda one: one.case):
        worst = max((output.rel_rms for output in result.outputs), default=math.nan)
        colour = "green" if result.verdict == "right" else "red" if result.bad else "dim"
        nodes = f"{result.npu_nodes} / {result.nodes}" if result.nodes else "-"
        verdict = f"[{colour}]{result.verdict}[/]"
        table.add_row(in_markup(result.case), verdict, nodes, _number(worst), f"{result.seconds:.1f}")
    console.print(table)
    for result in results:
        if result.verdict == "unsupported":
            console.print(
                f"[dim]unsupported[/] {in_markup(result.case)}: {lines_in_markup(result.message)}", highlight=False
            )


def _error_table(outputs: Sequence[OutputResult]) -> Table:
    table = Table()
    table.add_column("output")
    for output in outputs:
        table.add_column(in_markup(output.name), justify="right", overflow="fold")
    rows: list[tuple[str, list[str]]] = [
        ("type", [f"{output.dtype} {list(output.shape)}" for output in outputs]),
        ("max abs", [_number(output.max_abs) for output in outputs]),
        ("mean abs", [_number(output.mean_abs) for output in outputs]),
        ("max relative", [_number(output.max_rel) for output in outputs]),
        ("mean relative", [_number(output.mean_rel) for output in outputs]),
        ("relative RMS", [_number(output.rel_rms) for output in outputs]),
        ("  tolerance", [f"{output.tolerance:g}" for output in outputs]),
        ("  its source", [output.tolerance_source for output in outputs]),
        ("SQNR", [f"{_number(output.sqnr_db, '.1f')} dB" for output in outputs]),
        ("cosine", [_number(output.cosine, ".6f") for output in outputs]),
        ("NaN/inf differ", [str(output.nan_mismatch) for output in outputs]),
        ("top-1 agree", [_share(output.top1) for output in outputs]),
        ("top-5 agree", [_share(output.top5) for output in outputs]),
        ("verdict", ["[green]ok[/]" if output.ok else f"[red]{in_markup(output.why)}[/]" for output in outputs]),
    ]
    for name, cells in rows:
        table.add_row(name, *(cell if name == "verdict" else in_markup(cell) for cell in cells))
    return table


def _worst_table(worst: Sequence[tuple[OutputResult, WorstElement]]) -> Table:
    table = Table(title="largest differences", title_justify="left")
    for heading in ("output", "sample", "index", "CPU onnxruntime", "ours", "difference"):
        table.add_column(heading, justify="left" if heading == "output" else "right")
    for output, element in worst:
        table.add_row(
            in_markup(output.name),
            str(element.sample),
            in_markup(str(list(element.index))),
            _value(element.expected),
            _value(element.actual),
            _difference(element),
        )
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _number(value: float, form: str = ".2e") -> str:
    if math.isnan(value):
        return "-"
    return "0" if value == 0 else format(value, form)


def _value(value: float | str) -> str:
    return in_markup(value) if isinstance(value, str) else f"{value:.6g}"


def _difference(element: WorstElement) -> str:
    if isinstance(element.expected, str) or isinstance(element.actual, str):
        return "-"
    return f"{element.actual - element.expected:+.2e}"
