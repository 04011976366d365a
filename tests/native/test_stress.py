"""The stress program of the native lanes, without sanitizers (``sanitizers.sh`` runs it with them)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_stress(tmp_path: Path) -> None:
    native = ROOT / "ort_rknn" / "native"
    sources = [Path(__file__).with_name("stress.c"), *native.glob("*.c"), *(ROOT / "tests" / "emulator").glob("*.c")]
    program = tmp_path / "stress"
    command = [os.environ.get("CC", "cc"), "-std=c11", "-D_GNU_SOURCE", "-O1", "-pthread", f"-I{native}"]
    subprocess.run([*command, "-o", str(program), *map(str, sources)], check=True, timeout=120)
    done = subprocess.run([str(program), "500"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
