"""``ort-rknn cache``: look at the compiled models that are kept, and make room."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from ort_rknn_converters.cache.limit import limit, size_in
from ort_rknn_converters.cache.pause import Pauses
from ort_rknn_converters.cache.store import Cache, Entry, cache_directory
from ort_rknn_converters.cli.tables import new_table
from ort_rknn_converters.partition.plan import size_text
from ort_rknn_converters.util.foreign_text import in_markup
from ort_rknn_converters.util.user_dirs import KNOWN_FAILURES, places, unusable

__all__ = ["command"]


def _bytes(_: click.Context, __: click.Parameter, text: str | None) -> int:
    try:
        return limit() if text is None else size_in(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group("cache", help="List, shrink or clear the compiled models that are kept for the next start.")
@click.option(
    "--dir", "folder", type=click.Path(), help="The cache's folder. Default: ORT_RKNN_CACHE_DIR, or the user's."
)
@click.pass_context
def command(context: click.Context, folder: str | None) -> None:
    """Group of the cache's subcommands."""
    context.obj = cache_directory(folder)
    if why := unusable(context.obj):
        click.echo(f"Nothing is kept, because {why}. Set ORT_RKNN_CACHE_DIR to a folder, or give --dir.", err=True)
        context.exit(0)


@command.command("path")
@click.pass_obj
def path_command(folder: Path) -> None:
    """Print the folder, and on stderr what lies in it and how large that is."""
    click.echo(str(folder))
    for name, (place, size) in places(folder).items():
        click.echo(f"  {name}: {place} ({size_text(size)})", err=True)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@click.pass_context
def list_command(context: click.Context, as_json: bool) -> None:
    """Show what is kept, the most recently used first."""
    entries = Cache(context.obj).entries()
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    console = Console()
    if entries:
        table = new_table()
        for column in ("model", "target", "size", "used", "toolkit", "what"):
            table.add_column(column, overflow="fold")
        for entry in entries:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
            cells = (entry.model, entry.target, size_text(entry.size), used, entry.toolkit_version, _what(entry))
            table.add_row(*(in_markup(cell) for cell in cells))
        console.print(table)
        console.print()
    total = size_text(sum(entry.size for entry in entries))
    most = size_text(limit())
    console.print(f"{_count(entries)}, {total} of at most {most}, in {in_markup(str(context.obj))}", soft_wrap=True)


@command.command("clear")
@click.pass_context
def clear_command(context: click.Context) -> None:
    """Remove everything that was kept, and what was learned about single nodes. The toolkit stays."""
    cache = Cache(context.obj)
    freed = cache.clear()
    Pauses(context.obj, "").clear()
    with suppress(OSError):
        (context.obj / KNOWN_FAILURES).unlink(missing_ok=True)
    _report(freed, cache)


@command.command("prune")
@click.option(
    "--max-size",
    callback=_bytes,
    metavar="SIZE",
    help="What the rest may take, e.g. 500M or 2G. Default: the limit that new models keep, ORT_RKNN_CACHE_LIMIT.",
)
@click.pass_context
def prune_command(context: click.Context, max_size: int) -> None:
    """Remove the least recently used models until the rest is small enough."""
    cache = Cache(context.obj)
    _report(cache.prune(max_size), cache)


def _report(freed: int, cache: Cache) -> None:
    left = cache.entries()
    click.echo(f"{size_text(freed)} freed, {_count(left)} left")


def _count(entries: Sequence[Entry]) -> str:
    return "1 entry" if len(entries) == 1 else f"{len(entries)} entries"


def _what(entry: Entry) -> str:
    return f"failed: {entry.failure}" if entry.failure else "compiled model"
