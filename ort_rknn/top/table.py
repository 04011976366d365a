"""Table of ``ort-rknn top``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from ort_rknn_converters.util.foreign_text import in_markup, shown

__all__ = ["table"]

_LONGEST, _LONGEST_WORD = 48, 14  # characters of a name, of a device: longer ones would push the numbers out


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Lays out the sessions, one a line."""
    memory = sum(row["npu_bytes"] for row in rows)
    title = f"{len(rows)} session(s), {_megabytes(memory)} MB of NPU memory"
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("pid", "model", "cores", "class"):
        made.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1 if name == "model" else None)
    for name in ("jobs/s", "ms", "jobs", "failed", "MB", "idle s"):
        made.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cores = ",".join(map(str, row["cores"])) or "auto"
        made.add_row(
            str(row["pid"]),
            in_markup(shown((row["model"] or "").rpartition("/")[2], _LONGEST)),
            cores if row["device"] == "npu" else in_markup(shown(f"{row['device']} {cores}", _LONGEST_WORD)),
            in_markup(shown(row["class"] or "", _LONGEST_WORD)),
            "-" if row["rate"] is None else f"{row['rate']:.1f}",
            "-" if row["latency_ms"] is None else f"{row['latency_ms']:.2f}",
            str(row["done"]),
            str(row["failed"]),
            _megabytes(row["npu_bytes"]),
            "-" if row["idle_s"] is None else f"{row['idle_s']:.0f}",
        )
    return made


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"
