"""The last lines of `.ci/run`: what fell with the newest packages, then pytest's own last line of the main suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SUITE = "collected 3000 items\n=========== 2990 passed, 10 skipped in 401.02s (0:06:41) ===========\n"
CLOSING = "=========== 2990 passed, 10 skipped in 401.02s (0:06:41) ==========="
VERSIONS = "newest: onnxruntime 1.40.0, onnx 2.0.0, onnx-ir 2.1.0, numpy 3.0.0\n"


def last_lines(folder: Path, status: int, newest: str, suite: str = SUITE) -> list[str]:
    """What the program prints."""
    logs = (folder / "newest.log", folder / "test.log")
    for path, content in zip(logs, (newest, suite), strict=True):
        path.write_text(content, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "closing.py", str(status), *logs], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_all_well(tmp_path: Path) -> None:
    said = last_lines(tmp_path, 0, VERSIONS + "==== 400 passed in 61.20s ====\n")
    assert said == [
        "newest: all well with onnxruntime 1.40.0, onnx 2.0.0, onnx-ir 2.1.0, numpy 3.0.0: 400 passed in 61.20s",
        CLOSING,
    ]


def test_what_fell_is_named_with_the_versions(tmp_path: Path) -> None:
    fallen = "FAILED tests/a.py::test_b - TypeError: three\nERROR tests/c.py - ImportError: no\n"
    said = last_lines(
        tmp_path, 2, VERSIONS + fallen + "\x1b[31m= \x1b[1m1 failed\x1b[0m, 399 passed, 1 error in 60.00s =\n"
    )
    assert said[1] == (
        "NEWEST FAILED with onnxruntime 1.40.0, onnx 2.0.0, onnx-ir 2.1.0, numpy 3.0.0:"
        " 1 failed, 399 passed, 1 error in 60.00s"
    )
    assert said[2:4] == fallen.splitlines()
    assert said[-1] == CLOSING


@pytest.mark.parametrize(
    ("status", "log", "reason"),
    [
        (2, "ERROR: No matching distribution found for onnx\n", "the newest packages: they could not be installed"),
        (124, VERSIONS + "tests/a.py ....\n", "the tests took longer than the limit"),
        (2, VERSIONS + "Fatal Python error: Segmentation fault\n", "the tests did not end"),
    ],
)
def test_no_closing_line_of_its_own(status: int, log: str, reason: str, tmp_path: Path) -> None:
    said = last_lines(tmp_path, status, log)
    assert said[1].endswith(reason)
    assert said[-1] == CLOSING


def test_many_that_fell_do_not_hide_the_end(tmp_path: Path) -> None:
    fallen = "".join(f"FAILED tests/a.py::test_{number}\n" for number in range(100))
    said = last_lines(tmp_path, 1, VERSIONS + fallen + "= 100 failed in 60.00s =\n")
    assert "... and 60 more" in said
    assert len(said) < 50
