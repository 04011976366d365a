"""Draws for ``ort-rknn info``: facts, tables, shapes and scales."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from ort_rknn_converters.rknn_format.values import Quantization
from ort_rknn_converters.util.foreign_text import in_markup

__all__ = ["draw_facts", "draw_table", "new_table", "scales", "shape"]


def draw_facts(console: Console, rows: Iterable[tuple[str, object]]) -> None:
    """Names and values, without those that say nothing."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows:
        if value not in ("", None):
            table.add_row(in_markup(name), in_markup(str(value)))
    console.print(table)


def draw_table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table under its title, in the style of plans; long cells are folded, what is empty is left out."""
    cells = [[in_markup(str(cell)) for cell in row] for row in rows]
    if not cells:
        return
    kept = [index for index in range(len(columns)) if any(row[index] for row in cells)]
    table = new_table()
    for index in kept:
        table.add_column(columns[index], overflow="fold")
    for row in cells:
        table.add_row(*(row[index] for index in kept))
    console.print(f"\n[bold]{in_markup(title)}[/]")
    console.print(table)


def new_table() -> Table:
    """A table in the style of plans."""
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)


def shape(dims: Iterable[object]) -> str:
    """``1x3x8x8``; unknown dimensions as question marks."""
    return "x".join("?" if dim is None else str(dim) for dim in dims) or "scalar"


def scales(quantization: Quantization | None) -> str:
    """The first two scales and zero points, and how many there are."""
    if quantization is None:
        return ""
    pairs = list(zip(quantization.scale, quantization.zero_point or (0,) * len(quantization.scale), strict=False))
    text = ", ".join(f"{scale:.6g} zero {zero}" for scale, zero in pairs[:2])
    return text + (f", ... ({len(pairs)} channels)" if len(pairs) > 2 else "")
