"""The README tells the truth: its program runs and prints what stands there, its commands exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_first_screen_holds_the_program() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 8


@pytest.mark.parametrize("device", ["auto", "simulator"])
def test_program_runs(device: str, tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    environment = {**os.environ, "ORT_RKNN_DEVICE": device}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "CPUExecutionProvider" in done.stdout


@pytest.mark.toolkit
def test_the_plan_is_the_one_it_prints() -> None:
    (shown,) = re.findall(r"```\n(\['RKNN.*?)```", README, re.DOTALL)
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    environment = {**os.environ, "ORT_RKNN_DEVICE": "simulator"}
    done = subprocess.run([sys.executable, "-c", block], cwd=ROOT, env=environment, capture_output=True, text=True)

    def settled(text: str) -> list[str]:  # the compiler's time is not the same twice
        return [re.sub(r"[\d.]+ s\b", "T s", " ".join(line.split())) for line in text.splitlines()]

    assert settled(done.stdout) == settled(shown), done.stderr


def test_first_page_is_short() -> None:
    assert len(README.splitlines()) <= 120


def test_options_page_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, "-m", "docs.list_options", "--check"], cwd=ROOT)
    assert done.returncode == 0, "run `make readme`"


def test_every_command_exists() -> None:
    from ort_rknn.cli import main

    commands = set(re.findall(r"`ort-rknn ([\w-]+)", README))
    assert commands >= {"convert", "check", "doctor", "toolkit"}
    for command in commands:
        result = CliRunner().invoke(main, [command, "--help"])
        assert result.exit_code == 0, f"ort-rknn {command}: {result.output}"


def test_make_targets() -> None:
    """What is named exists, what exists is named, and none is taken for a file."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", contributing, re.MULTILINE))
    assert named == targets
    assert set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", README, re.MULTILINE)) <= targets
    assert set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()) == targets
