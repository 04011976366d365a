"""The record of the vendor's librknnrt 1.6.0 and the answers of any runtime, in one form."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from ort_rknn_conformance.hardware.contract.sections import Section

RECORD = Path(__file__).resolve().parents[1] / "data" / "librknnrt-1.6.0"
Row = tuple[str, tuple[str, ...]]
"""What was said, and what the runtime logged before."""

_LOG = re.compile(r"^E RKNN: (?:\[[0-9:.]+\] )?")
_TAKES = re.compile(r" ms=[0-9.]+")
_END = re.compile(r'^!! section "(.*)" ended by signal (\d+)$')


def recorded(name: str) -> list[Row]:
    """The rows of a model in the record."""
    rows, log = [], []
    for line in (RECORD / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if _LOG.match(line):
            log.append(_LOG.sub("", line))
        elif end := _END.match(line):
            rows.append((f"{end[1]}: {signal.Signals(int(end[2])).name}", tuple(log)))
            log = []
        elif not line.startswith(("qemu:", "terminate called", "  what()", "double free", "free():")):
            rows.append((_plain(line), tuple(log)))
            log = []
    return rows


def answered(sections: Iterable[Section]) -> Iterator[Row]:
    """The rows of a runtime's answers."""
    for section in sections:
        for line in section.lines:
            yield _plain(line["said"]), tuple(line["log"])
        if section.died:
            yield f"{section.name}: {section.died}", tuple(one for one in section.last if not one.startswith("E EMU"))


def _plain(line: str) -> str:
    line = _TAKES.sub("", line)
    if line.startswith(("MEM_SIZE", "dup MEM_SIZE")):  # the record goes on with zeros
        return " ".join(line.split()[: 5 if line.startswith("MEM") else 6])
    return line.rstrip() if not line.startswith("DYN_RANGE") else line.replace(",]", "]")
