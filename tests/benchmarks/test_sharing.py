"""The benchmark of sharing runs, and prints its table; whether its targets are met depends on what else the machine does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_table(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "benchmarks" / "sharing.py"), "--seconds", "0.3", "sessions", "killed"]
    done = subprocess.run(script, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=100)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    rows = [line.partition("  ")[0] for line in done.stdout.splitlines()[1:]]
    assert rows == [
        "3 sessions, run",
        "5 sessions, run",
        "kill -9 of one of three, from 100 ms on",
        'kill -9 of one of three, arbiter="machine", from 100 ms on',
    ]
