"""onnxruntime's private names taken away one by one, or made something else: sessions open, run and answer right."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.helpers.changed_onnxruntime import ALL, USED
from tests.helpers.emulator import build_emulator

ROOT = Path(__file__).resolve().parents[3]


def _wrong(changes: Sequence[str], folder: Path) -> Iterator[str]:
    build_emulator()
    command = [sys.executable, "-m", "tests.helpers.changed_onnxruntime", str(folder), *changes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["change"] for answer in answers] == list(changes), done.stderr[-3000:]
    for answer in answers:
        for program, said in answer["wrong"].items():
            yield f"{answer['change']}, {program}: {said}"


@pytest.mark.timeout(400)
def test_what_is_used_may_go(tmp_path: Path) -> None:
    wrong = list(_wrong(USED, tmp_path))
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_anything_may_go(tmp_path: Path) -> None:
    wrong = list(_wrong(ALL, tmp_path))
    assert not wrong, "\n\n".join(wrong)
