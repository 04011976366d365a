"""docs/hardware.md is what its command writes, and nothing emulated is ever called hardware."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from docs.write_hardware import NO_BOARD, PAGE, REPORTS, Report, main

MADE_UP = {
    "format": 2,
    "where": "hardware",
    "target": "rk3588",
    "board": "Made-up Board 5 (test)",
    "device": {"name": "npu", "runtime": "2.3.2", "driver": "0.9.8"},
    "versions": {"onnxruntime": "1.31.1"},
    "written": "2026-11-20T10:00:00+00:00",
}


def _trial(group: str, name: str, ok: bool | None, said: str, **more: Any) -> dict[str, Any]:
    empty = {"rel_rms": None, "median_ms": None, "p95_ms": None, "per_second": None, "details": ""}
    return {"group": group, "name": name, "ok": ok, "said": said, **empty, **more}


TRIALS = [
    _trial("cores", "core 0, one at a time", True, "right", median_ms=1.25, p95_ms=1.5, per_second=800),
    _trial("cores", "all cores, several in flight", True, "right", per_second=2400.0),
    _trial("operators", "gelu", False, "wrong numbers: off by 0.3 (relative RMS)"),
    _trial("features", "values beyond 65504", None, "345000 becomes 65504"),
    _trial("features", "time of each layer", True, "99 us in all", details="ID OpType\n0 Conv"),
]


def _write(folder: Path, name: str, **changes: Any) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**MADE_UP, "trials": TRIALS, **changes}))
    return path


def _page(folder: Path, *reports: Path) -> str:
    main([*map(str, reports), "-o", str(folder / "page.md")])
    return (folder / "page.md").read_text()


def test_the_committed_page_is_what_the_command_writes(tmp_path: Path) -> None:
    main(["-o", str(tmp_path / "hardware.md")])
    assert (tmp_path / "hardware.md").read_text() == PAGE.read_text()


def test_without_hardware_it_says_so_first(tmp_path: Path) -> None:
    kept = [Report.read(path) for path in sorted(REPORTS.glob("*.json"))]
    if not any(report.hardware for report in kept):
        assert NO_BOARD in PAGE.read_text()
    text = _page(tmp_path, _write(tmp_path, "e", where="emulated", board=None))
    assert NO_BOARD in text
    boards, others = text.split("## Not hardware")
    assert "emulated, rk3588" in others
    assert "emulated" not in boards.split("## Boards")[1]
    assert "1.25" not in text, "times of an emulated run mean nothing"
    assert "2.3.2" not in text.split("## What librknnrt")[0], "an emulated runtime has no version"


def test_a_board_is_a_column(tmp_path: Path) -> None:
    report = _write(tmp_path, "b")
    text = _page(tmp_path, report, _write(tmp_path, "e", where="simulated", board=None, target="rk3566"))
    assert NO_BOARD not in text
    assert "| Made-up Board 5 (test), rk3588 | npu | 2.3.2 | 0.9.8 | 1.31.1 | 2026-11-20 | 3 right, 1 wrong |" in text
    assert "| core 0, one at a time | right, 1.25 ms (p95 1.50) |" in text
    assert "| all cores, several in flight | right, 2400 a second |" in text
    assert "| gelu | **wrong**: wrong numbers: off by 0.3 (relative RMS) |" in text
    assert "| values beyond 65504 | 345000 becomes 65504 |" in text
    assert "0 Conv" in text
    assert "| simulated, rk3566 |" in text.split("## Not hardware")[1]


@pytest.mark.parametrize("content", ["{}", "[]", "no json", json.dumps({**MADE_UP, "where": "moon"})])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(SystemExit, match=r"x\.json: no report of ort-rknn board-test"):
        main([str(tmp_path / "x.json"), "-o", str(tmp_path / "page.md")])
