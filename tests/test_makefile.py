"""The Makefile's long targets work in a fresh checkout, and its environments come from the lock."""

from __future__ import annotations

import re
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


def test_nothing_is_installed_past_the_lock() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    commands = [
        command
        for line in makefile.replace("\\\n", " ").splitlines()
        for command in re.split(r"&&|;", line)
        if re.search(r"uv pip install|[(]PIP_INSTALL[)]", command)
    ]
    assert len(commands) >= 7
    locked = (
        "--require-hashes -r $(2)",
        "--require-hashes -r .ci/lock/plugin.txt",
        "--require-hashes -r .ci/lock/docs.txt",
        "--require-hashes -r .ci/lock/wheels.txt",
        "--no-deps --no-build-isolation -e .",
        "-c .ci/lock/programs.txt",
        "-c .ci/lock/ray.txt",
        "-c .ci/lock/ultralytics.txt",
    )
    past = [command.strip() for command in commands if not any(words in command for words in locked)]
    assert [
        command for command in past if not re.search(r"[(]NEWEST[)]/bin/python.* --upgrade [$][(]MOVING[)]$", command)
    ] == []
