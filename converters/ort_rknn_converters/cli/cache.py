"""``ort-rknn cache``: look at the compiled models that are kept, and make room."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ort_rknn_converters.cache import Cache, Entry, directory
from ort_rknn_converters.verdicts import FILE

__all__ = ["command"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", re.IGNORECASE)


def _bytes(_: click.Context, __: click.Parameter, text: str) -> int:
    """``500M``, ``2GiB``, ``1000``: bytes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size such as 500M or 2G")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


@click.group("cache", help="List, shrink or clear the compiled models that are kept for the next start.")
@click.option(
    "--dir", "folder", type=click.Path(), help="The cache's folder. Default: ORT_RKNN_CACHE_DIR, or the user's."
)
@click.pass_context
def command(context: click.Context, folder: str | None) -> None:
    """Group of the cache's subcommands."""
    context.obj = directory(folder)


@command.command("path")
@click.pass_obj
def path_command(folder: object) -> None:
    """Print the folder."""
    click.echo(str(folder))


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
        table = Table()
        for column in ("model", "target", "size", "used", "toolkit", "what"):
            table.add_column(column, overflow="fold")
        for entry in entries:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
            cells = (entry.model, entry.target, _size(entry.size), used, entry.toolkit_version, _what(entry))
            table.add_row(*(escape(cell) for cell in cells))
        console.print(table)
    total = _size(sum(entry.size for entry in entries))
    console.print(f"{len(entries)} entries, {total}, in {escape(str(context.obj))}", soft_wrap=True)


@command.command("clear")
@click.pass_context
def clear_command(context: click.Context) -> None:
    """Remove everything that was kept, and what was learned about single nodes. The toolkit stays."""
    cache = Cache(context.obj)
    freed = cache.clear()
    (context.obj / FILE).unlink(missing_ok=True)
    _report(freed, cache)


@command.command("prune")
@click.option(
    "--max-size", callback=_bytes, required=True, metavar="SIZE", help="What the rest may take, e.g. 500M or 2G."
)
@click.pass_context
def prune_command(context: click.Context, max_size: int) -> None:
    """Remove the least recently used models until the rest is small enough."""
    cache = Cache(context.obj)
    _report(cache.prune(max_size), cache)


def _report(freed: int, cache: Cache) -> None:
    left = cache.entries()
    click.echo(f"{_size(freed)} freed, {len(left)} entries left")


def _what(entry: Entry) -> str:
    return f"failed: {entry.failure}" if entry.failure else "compiled model"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 10**5 else f"{count / 1e3:.1f} kB"
