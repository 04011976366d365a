"""A run as one HTML page that needs nothing else: style, script and data are inside, and it opens from disk."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from ort_rknn_conformance.report.document import MEANINGS, Document
from ort_rknn_conformance.report.picture import draw, draw_parts
from ort_rknn_conformance.result import BAD, HISTOGRAM_EDGES, CaseResult
from ort_rknn_converters.util.foreign_text import html, shown, shown_lines
from ort_rknn_converters.util.own_files import write_given

__all__ = ["render", "write"]

_POLICY = (
    "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; style-src-attr 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
"""What a browser lets the page do: run its own script with its own style. Nothing is loaded, and no script in a text of
somebody else runs."""

MANY = 40  # nodes above which the picture of the parts comes first: as many as a screen shows (a guess)


def write(path: str | Path, document: Document) -> None:
    """Write the page.

    Raises:
        OSError: It cannot be written.
    """
    write_given(path, render(document))


def render(document: Document) -> str:
    """The page as text."""
    style, script = _asset("page.css"), _asset("page.js")
    parts = {
        "TITLE": html(document.title),
        "POLICY": _POLICY.format(script=_sha256(f"\n{script}\n"), style=_sha256(f"\n{style}\n")),
        "STYLE": style,
        "SCRIPT": script,
        # "<" inside a string could end the script element; as an escape it is the same JSON.
        "DATA": json.dumps(_harmless(_data(document)), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    return re.sub(r"\[\[(\w+)\]\]", lambda found: parts[found[1]], _asset("page.html"))


def _data(document: Document) -> dict[str, Any]:
    """Everything the script shows."""
    return {
        "title": document.title,
        "setting": document.setting,
        "head": dict(document.head),
        "seconds": document.seconds,
        "verdicts": [{"name": name, "meaning": said, "bad": name in BAD} for name, said in MEANINGS.items()],
        "edges": HISTOGRAM_EDGES,
        "cases": [_case(result) for result in sorted(document.results, key=lambda result: result.case)],
        "ops": list(_ops(document.results)),
        "difference": None
        if document.difference is None
        else {**asdict(document.difference), "said": str(document.difference)},
    }


def _case(result: CaseResult) -> dict[str, Any]:
    """A result as the page needs it: the graph as a drawing, and nothing that is empty."""
    row = result.to_dict()
    if result.graph:
        bad = {layer.node for layer in result.layers if layer.advice}
        row["picture"] = draw(result.graph, bad)
        row["overview"] = draw_parts(result.graph, bad) if len(result.graph) > MANY else ""
    del row["graph"]
    worst = _worst(result)
    row["rel_rms"] = worst if worst is None or math.isfinite(worst) else "inf"
    return {key: value for key, value in row.items() if value not in ("", None, [], {})}


def _ops(results: Iterable[CaseResult]) -> Iterable[Mapping[str, Any]]:
    """One row an op type: the cases it is in and how they ended; of a single model, its nodes."""
    rows: dict[str, dict[str, Any]] = {}
    for result in results:
        placed: dict[str, list[int]] = {}
        for node in result.graph:
            counts = placed.setdefault(node.op_type, [0, 0])
            counts[node.place == "NPU"] += 1
        for op in placed or result.ops:
            row = rows.setdefault(
                op, {"op": op, "cases": 0, "right": 0, "bad": 0, "other": 0, "npu": 0, "rel_rms": None}
            )
            if placed:
                cpu, npu = placed[op]
                row["cases"] += cpu + npu
                row["npu"] += npu
                continue
            row["cases"] += 1
            row["npu"] += result.npu_nodes > 0
            row["right" if result.verdict == "right" else "bad" if result.bad else "other"] += 1
            worst = _worst(result)
            if worst is not None and (row["rel_rms"] is None or worst > row["rel_rms"]):
                row["rel_rms"] = worst
    for row in rows.values():
        if row["rel_rms"] == math.inf:
            row["rel_rms"] = "inf"
    return (rows[op] for op in sorted(rows))


def _worst(result: CaseResult) -> float | None:
    """The largest relative RMS of its outputs; infinite where NaN or infinity came out instead of a number."""
    sizes = [math.inf if output.nan_mismatch else output.rel_rms for output in result.outputs]
    return max((size for size in sizes if not math.isnan(size)), default=None)


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _harmless(value: Any) -> Any:
    """Shows every text in plain data: the script puts them on the page as text, and none may turn what is around it."""
    if isinstance(value, str):
        return shown_lines(value)
    if isinstance(value, Mapping):
        return {shown(key): _harmless(one) for key, one in value.items()}
    return [_harmless(one) for one in value] if isinstance(value, (list, tuple)) else value


def _asset(name: str) -> str:
    return (resources.files("ort_rknn_conformance.report") / "assets" / name).read_text(encoding="utf-8")
