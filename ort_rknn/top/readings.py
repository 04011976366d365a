"""Reads the pages of all sessions of this machine that the user may see."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ort_rknn.accounting.published import COUNTERS, HEADER, SUFFIX, pid_namespace
from ort_rknn.accounting.runtime_folder import private_folders, process_start, readable_folders
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.own_files import read_regular
from ort_rknn_converters.util.plain_data import COUNT, NUMBER, TEXT, maybe, parse_json, record, rows

__all__ = ["Reading", "read_sessions", "row"]

_FORM = struct.Struct(f"={len(COUNTERS)}q")
_FACTS = record(
    {"pid": COUNT, "started": maybe(COUNT), "namespace": TEXT, "session": COUNT},
    {name: maybe(TEXT) for name in ("program", "model", "device", "target", "class")}
    | {"opened": NUMBER, "cores": rows(COUNT)},
    more=True,
)
"""Pages of other users are read, too, by root: anything may be in them."""


@frozen
class Reading:
    """A session at one moment.

    Attributes:
        facts: Facts that do not change.
        counters: Name to number.
        at: Seconds, monotonic.
    """

    facts: Mapping[str, Any]
    counters: Mapping[str, int]
    at: float

    @property
    def key(self) -> tuple[Any, ...]:
        """Names the session among all of the machine."""
        return self.facts["namespace"], self.facts["pid"], self.facts["started"], self.facts["session"]


def read_sessions() -> list[Reading]:
    """All sessions of living processes; those that dead ones of this user left are removed."""
    here, own, found = pid_namespace(), private_folders(), []
    for folder in readable_folders():
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            reading = _read(path)
            if reading is None:
                continue
            facts = reading.facts
            if facts["namespace"] == here and process_start(facts["pid"]) != facts["started"]:
                with contextlib.suppress(OSError):
                    if folder in own:  # root removes nothing for others, whose folder may be a link by then
                        path.unlink(missing_ok=True)
                continue
            found.append(reading)
    return sorted(found, key=lambda reading: (reading.facts["pid"], reading.facts["session"]))


def _read(path: Path) -> Reading | None:
    """One page; ``None`` where it is gone, being made, or none of ours."""
    try:
        content = read_regular(path, HEADER + _FORM.size)
        facts = parse_json(content[:HEADER], _FACTS)
        counters = dict(zip(COUNTERS, _FORM.unpack(content[HEADER:]), strict=True))
        return Reading(facts, counters, time.monotonic())
    except (OSError, ValueError, struct.error):
        return None


def row(now: Reading, before: Reading | None) -> dict[str, Any]:
    """A session's line as plain data.

    Args:
        now: The session.
        before: The same session earlier; rate and latency are of the time between. Without it they are unknown and of
            all inferences.
    """
    done, failed, latency = (now.counters[name] for name in ("done", "failed", "latency_ns"))
    rate: float | None = None
    of, took = done, latency
    if before is not None and now.at > before.at:
        fresh = done - before.counters["done"]
        rate = round(fresh / (now.at - before.at), 2)
        if fresh:
            of, took = fresh, latency - before.counters["latency_ns"]
    facts = now.facts
    used = now.counters["used_ns"]
    return {
        "pid": facts["pid"],
        "program": facts.get("program", ""),
        "session": facts["session"],
        "model": facts.get("model", ""),
        "device": facts.get("device", ""),
        "target": facts.get("target", ""),
        "cores": facts.get("cores", []),
        "class": facts.get("class", ""),
        "rate": rate,
        "latency_ms": round(took / of / 1e6, 3) if of else None,
        "active": now.counters["active"],
        "done": done,
        "failed": failed,
        "npu_bytes": now.counters["npu_bytes"],
        "open_contexts": now.counters["open_contexts"],
        "idle_s": round(time.time() - used / 1e9, 1) if used else None,
    }
