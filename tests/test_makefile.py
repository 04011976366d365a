"""The Makefile's long targets work in a fresh checkout."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_the_standards_cases_run_in_a_fresh_checkout_and_go_on_after_an_interruption() -> None:
    root = Path(__file__).parents[1]
    recipe = subprocess.run(
        ["make", "-n", "conformance-nodes", "TARGET=rk3576"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    (command,) = [line for line in recipe if " conformance " in line]
    assert "--json out/conformance-rk3576.json" in command
    assert "--resume" in command
    assert "mkdir -p out" in recipe[: recipe.index(command)]
