"""Prints the last lines of `.ci/run`: what fell with the newest packages, then the closing line of the main suite.

python .ci/closing.py STATUS NEWEST_LOG MAIN_LOG
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SHOWN = 40
"""Tests named at most; the log has them all."""


def closing_line(log: str) -> str:
    """Pytest's own last line, such as ``=== 3 failed, 400 passed in 61.20s ===``; empty where it never came to that."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    found = re.findall(r"^=*[^\n=]*\b(?:passed|failed|errors?|skipped)\b[^\n]* in [0-9.]+s[^\n]*$", plain, re.MULTILINE)
    return found[-1] if found else ""


def outcome(status: int, log: str, path: str) -> list[str]:
    """What the newest packages did, in lines: one where all is well, else every test that fell."""
    versions = re.findall(r"^newest: (.*)$", log, re.MULTILINE)
    what = versions[-1] if versions else "the newest packages"
    closing = closing_line(log).strip("= ")
    if status == 0:
        return [f"newest: all well with {what}: {closing}"]
    fallen = re.findall(r"^(?:FAILED|ERROR) .*$", log, re.MULTILINE)
    if not versions:
        reason = "they could not be installed"
    else:
        reason = closing or ("the tests took longer than the limit" if status == 124 else "the tests did not end")
    bar = "!" * 100
    more = [f"... and {len(fallen) - SHOWN} more"] if len(fallen) > SHOWN else []
    return [
        bar,
        f"NEWEST FAILED with {what}: {reason}",
        *fallen[:SHOWN],
        *more,
        f"This run stays as it is; `make test-newest` shows it again, its log is {path}",
        bar,
    ]


def main() -> int:
    """Print them."""
    status, newest, suite = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    print("\n".join(outcome(status, newest.read_text(encoding="utf-8", errors="replace"), str(newest))))
    print(closing_line(suite.read_text(encoding="utf-8", errors="replace")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
