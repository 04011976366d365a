"""What a process and its children held at most, as ``ort-rknn convert`` says it."""

from __future__ import annotations

import subprocess
import sys

from ort_rknn_converters.util.memory import peaks


def test_the_peak_stays_when_memory_is_given_back() -> None:
    before, _ = peaks()
    held = bytearray(80_000_000)
    held[::4096] = b"x" * len(held[::4096])
    del held
    own, _ = peaks()
    assert own >= max(before, 80_000_000)
    subprocess.run([sys.executable, "-c", "x = b'x' * 300_000_000"], check=True)
    assert peaks()[1] > 300_000_000
