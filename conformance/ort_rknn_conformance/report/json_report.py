"""A run as one JSON file: header, counts, every result. Written atomically, so a broken run leaves a whole file."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ort_rknn_conformance.case import CaseError, Settings
from ort_rknn_conformance.flows import Flow
from ort_rknn_conformance.report.versions import versions
from ort_rknn_conformance.result import CaseResult
from ort_rknn_converters.util.own_files import read_regular, write_given
from ort_rknn_converters.util.plain_data import ANYTHING, TEXT, by_name, maybe, parse_json, record, rows

__all__ = ["FORMAT", "header", "read", "same_run", "write"]

FORMAT = 1
_MOST = 1 << 28  # bytes of a report; a guess: all cases of the standard take 4 MB
_FORM = record(
    {"format": ANYTHING, "results": rows(by_name(ANYTHING))},
    dict.fromkeys(("flow", "about", "target", "precision", "machine", "written"), TEXT)
    | {"versions": by_name(maybe(TEXT))},
    more=True,
)
"""Version of the file's layout; it grows when a field changes its meaning."""


def header(flow: Flow, settings: Settings) -> dict[str, Any]:
    """Header of a report, to compare two runs: what ran, how, on which versions."""
    return {
        "flow": flow.name,
        "about": flow.about,
        "target": settings.target,
        "precision": settings.precision,
        "tolerance": settings.tolerance,
        "min_gain": settings.min_gain,
        "versions": versions(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def write(path: str | Path, head: Mapping[str, Any], results: Iterable[CaseResult], *, finished: bool = True) -> None:
    """Write a report.

    Raises:
        OSError: The file cannot be written.
    """
    rows = sorted(results, key=lambda result: result.case)
    content = {
        "format": FORMAT,
        **head,
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "finished": finished,
        "counts": dict(Counter(result.verdict for result in rows)),
        "results": [result.to_dict() for result in rows],
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    if Path(path).exists() and not Path(path).is_file():  # /dev/stdout is not to be replaced by a file
        write_given(path, text)
        return
    part = Path(f"{path}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def read(path: str | Path) -> tuple[dict[str, Any], list[CaseResult]]:
    """The header and the results of a report.

    Raises:
        CaseError: The file is no report of ours.
    """
    try:
        content = parse_json(read_regular(path, _MOST), _FORM)
        if content["format"] != FORMAT:
            raise CaseError(f"{path}: report format {content['format']}, this version reads {FORMAT}")
        results = [CaseResult.from_dict(row) for row in content["results"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CaseError):
            raise
        raise CaseError(f"{path}: not a conformance report ({error})") from error
    return {key: value for key, value in content.items() if key != "results"}, results


def same_run(head: Mapping[str, Any], other: Mapping[str, Any]) -> Sequence[str]:
    """The header fields in which two runs differ, so that their results cannot be joined."""
    return [key for key in head if head[key] != other.get(key)]
