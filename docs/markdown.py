"""Markdown that the pages written by commands have in common."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

__all__ = ["table", "write_or_check"]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table, line by line."""
    yield "| " + " | ".join(header) + " |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def write_or_check(page: Path, lines: Iterable[str]) -> int:
    """Writes a page; with ``--check`` among the program's arguments gives 1 when it is out of date."""
    content = "\n".join(lines) + "\n"
    if "--check" in sys.argv:
        return int(not page.exists() or page.read_text(encoding="utf-8") != content)
    page.write_text(content, encoding="utf-8")
    return 0
