"""``ort-rknn doctor``: the table, and the same as JSON for a bug report."""

from __future__ import annotations

import json
import os
import platform
import re
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from ort_rknn_conformance.doctor.findings import Finding
from ort_rknn_converters.util.foreign_text import in_markup, lines_in_markup

__all__ = ["command"]

_MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "bad": "[red]bad[/]"}


@click.command("doctor")
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False),
    default="/",
    show_default=True,
    help="Look at the file system of a board mounted there.",
)
@click.option("--no-test", is_flag=True, help="Do not run the self-test.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for a bug report.")
def command(root: str, no_test: bool, as_json: bool) -> None:
    """Say what decides whether the NPU is used on this machine, and what to do about what is bad.

    Exit code 0: the NPU is used here. 1: it is not.
    """
    from ort_rknn.devices.library_name import named_library
    from ort_rknn.devices.soc import named_target
    from ort_rknn_conformance.doctor.board import board_findings
    from ort_rknn_conformance.doctor.packages import package_findings, tried
    from ort_rknn_conformance.doctor.software import native_lanes, software_findings
    from ort_rknn_converters.toolkit.setup.environment import toolkit_version

    here = os.path.realpath(root) == "/"
    machine = platform.machine() if here else "aarch64"
    library, named = (named_library(), named_target()) if here else (None, None)
    found = list(board_findings(root, toolkit_version(), library, machine, named=named))
    if here:
        found += tried("software", software_findings)
        broken = list(package_findings())
        found += broken
        if not broken:  # all that follows loads them
            found += tried("native lanes", lambda: [native_lanes()])
            if not no_test:
                found += tried("self-test", _self_test)
    used = not any(finding.state == "bad" for finding in found)
    if as_json:
        from ort_rknn_conformance.report.versions import versions

        report = {"npu_used": used, "findings": [asdict(finding) for finding in found], "versions": versions()}
        click.echo(_without_home(json.dumps(report, indent=1)))
    else:
        _print(found, used)
    raise SystemExit(0 if used else 1)


def _without_home(text: str) -> str:
    """JSON text for a bug report, which need not say who the user is."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path's own raises where there is no home
    for path in dict.fromkeys((home, os.path.realpath(home))):
        if len(path) > 1:
            text = re.sub(re.escape(json.dumps(path)[1:-1]) + r"(?![\w.-])", "~", text)
    return text


def _self_test() -> tuple[Finding, ...]:
    from ort_rknn_conformance.doctor.selftest import self_test

    return self_test()


def _print(found: list[Finding], used: bool) -> None:
    console = Console(highlight=False)
    table = Table(show_lines=False, title="What decides whether the NPU is used", title_justify="left")
    for heading in ("", "what", "found"):
        table.add_column(heading, overflow="fold")
    for finding in found:
        said = lines_in_markup(finding.said)
        if finding.cure:
            said += f"\n[bold]→[/] {lines_in_markup(finding.cure)}"
        table.add_row(_MARKS[finding.state], in_markup(finding.topic), said)
    console.print(table)
    bad = [finding.topic for finding in found if finding.state == "bad"]
    if used:
        console.print("[bold green]The NPU is used here.[/]")
    else:
        console.print(f"[bold]The NPU is not used here[/]: {in_markup(', '.join(bad))}.")
