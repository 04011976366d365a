"""The soak itself works: two seconds of it find nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_two_seconds(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--seconds", "2", "--threads", "4"]
    done = subprocess.run(script, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "VIOLATIONS" in done.stdout
