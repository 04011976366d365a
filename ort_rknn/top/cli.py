"""Command ``ort-rknn top``."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from ort_rknn.top.readings import Reading, read_sessions, row

__all__ = ["command"]

FIRST_S = 0.3
"""How long the first table waits for a rate. A guess: a glance."""


@click.command("top", short_help="Show this machine's sessions, live.")
@click.option("--interval", type=click.FloatRange(0.05), default=1.0, show_default=True, help="Seconds between looks.")
@click.option("--json", "as_json", is_flag=True, help="Print one look as JSON, and end.")
@click.option("--once", is_flag=True, help="Print one table, and end.")
def command(interval: float, as_json: bool, once: bool) -> None:
    """Show the sessions with an NPU part that run on this machine: those of this user; root sees all.

    Rate and latency (waiting included) are of the time between two looks; memory is what the NPU's runtime says of the
    contexts that are open now. Sessions on the simulator are shown, too. Ctrl-C ends it.
    """
    before = {reading.key: reading for reading in read_sessions()}
    if as_json or once:
        time.sleep(interval)
        rows, _ = _look(before)
        if as_json:
            total = sum(one["npu_bytes"] for one in rows)
            click.echo(json.dumps({"sessions": rows, "npu_bytes": total}, indent=2))
            return
        from rich.console import Console

        from ort_rknn.top.table import table

        Console().print(table(rows))
        return
    _live(interval, before)


def _look(before: dict[Any, Reading]) -> tuple[list[dict[str, Any]], dict[Any, Reading]]:
    readings = read_sessions()
    return [row(one, before.get(one.key)) for one in readings], {one.key: one for one in readings}


def _live(interval: float, before: dict[Any, Reading]) -> None:
    from rich.live import Live

    from ort_rknn.top.table import table

    try:
        time.sleep(min(interval, FIRST_S))
        rows, before = _look(before)
        with Live(table(rows), auto_refresh=False, screen=False) as live:
            while True:
                time.sleep(interval)
                rows, before = _look(before)
                live.update(table(rows), refresh=True)
    except KeyboardInterrupt:
        return
