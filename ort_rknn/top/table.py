"""Table of ``ort-rknn top``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from ort_rknn_converters.util.foreign_text import in_markup

__all__ = ["table"]


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Lays out the sessions, one a line."""
    memory = sum(row["npu_bytes"] for row in rows)
    title = f"{len(rows)} session(s), {_megabytes(memory)} MB of NPU memory"
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("pid", "model", "cores", "class"):
        shown.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1 if name == "model" else None)
    for name in ("jobs/s", "ms", "jobs", "failed", "MB", "idle s"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cores = ",".join(map(str, row["cores"])) or "auto"
        shown.add_row(
            str(row["pid"]),
            in_markup((row["model"] or "").rpartition("/")[2]),
            cores if row["device"] == "npu" else in_markup(f"{row['device']} {cores}"),
            in_markup(row["class"] or ""),
            "-" if row["rate"] is None else f"{row['rate']:.1f}",
            "-" if row["latency_ms"] is None else f"{row['latency_ms']:.2f}",
            str(row["done"]),
            str(row["failed"]),
            _megabytes(row["npu_bytes"]),
            "-" if row["idle_s"] is None else f"{row['idle_s']:.0f}",
        )
    return shown


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"
