"""What all tests in the box share: installations of the package by an ordinary user, timed and weighed."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.board.box import BUILD, KEPT, run

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    made = (BUILD / "layouts" / "board").exists()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.board)
            item.add_marker(pytest.mark.timeout(900))
            if not made:
                item.add_marker(pytest.mark.skip(reason="tests/board/prepare.py has not made a box: make test-board"))


def _installed(suite: str, what: str = "ort-rknn") -> Path:
    folder = BUILD / f"home-{suite}"
    if os.environ.get(KEPT) and (folder / "v" / "bin" / "ort-rknn").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{suite}: pip install {what} (a minute or more under emulation) ...", flush=True)
    begun = time.monotonic()
    # Bytecode is made at the first import: on a board that takes moments, under emulation minutes.
    command = f"cd && python3 -m venv v && v/bin/pip install --quiet --no-compile '{what}' && du -sm v"
    done = run(["sh", "-c", command], suite=suite)
    assert done.returncode == 0, done.stdout
    took, size = time.monotonic() - begun, done.stdout.split()[-2]
    print(f"{suite}: pip install {what}: {took:.0f} s under emulation, {size} MB with pip")
    return folder


@pytest.fixture(scope="session")
def home() -> Path:
    """The home of a user who has installed ``ort-rknn`` into a virtual environment. It stays for a look afterwards."""
    return _installed("bookworm")


@pytest.fixture(scope="session")
def newer() -> Path:
    """The same on Debian 13, whose Python is newer than the toolkit's wheels."""
    if not (BUILD / "trixie.done").exists():
        pytest.skip("tests/board/prepare.py has not made Debian 13: make test-board")
    return _installed("trixie")
