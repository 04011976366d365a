"""What all tests in the box share: one installation of the package by an ordinary user, timed and weighed."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.board.box import BUILD, run

KEPT = "ORT_RKNN_TESTS_KEPT_BOX"
"""Environment variable: ``1`` takes the installation of the last run, for work on a test."""
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    made = (BUILD / "layouts" / "board").exists()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.board)
            item.add_marker(pytest.mark.timeout(900))
            if not made:
                item.add_marker(pytest.mark.skip(reason="tests/board/prepare.py has not made a box: make test-board"))


@pytest.fixture(scope="session")
def home() -> Path:
    """The home of a user who has installed ``ort-rknn`` into a virtual environment. It stays for a look afterwards."""
    folder = BUILD / "home-bookworm"
    if os.environ.get(KEPT):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.monotonic()
    # Bytecode is made at the first import: on a board that takes moments, under emulation minutes.
    done = run(["sh", "-c", "cd && python3 -m venv v && v/bin/pip install --quiet --no-compile ort-rknn && du -sm v"])
    assert done.returncode == 0, done.stdout
    took, size = time.monotonic() - begun, done.stdout.split()[-2]
    print(f"\npip install ort-rknn: {took:.0f} s under emulation, {size} MB with pip")
    return folder
