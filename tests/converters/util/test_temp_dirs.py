"""Temporary folders go with their owners, also with those that were killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ort_rknn_converters.util import temp_dirs

PREFIX = "ort_rknn-test-"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def old(folder: Path) -> None:
    """As if it had been made long ago."""
    then = time.time() - 2 * temp_dirs.STALE_S
    os.utime(folder, (then, then))


def test_it_is_gone_after_the_block(tmp_path: Path) -> None:
    with temp_dirs.temporary(PREFIX) as folder:
        (folder / "file").write_text("")
        assert folder.parent == tmp_path / f"ort_rknn-{os.geteuid()}"
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    code = (
        "import os; from ort_rknn_converters.util import temp_dirs; "
        "temp_dirs.hold('ort_rknn-test-'); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    (left,) = (tmp_path / f"ort_rknn-{os.geteuid()}").iterdir()
    with temp_dirs.temporary(PREFIX):
        assert left.exists()  # as young as this, its owner may not have locked it yet
    old(left)
    with temp_dirs.temporary(PREFIX):
        assert not left.exists()


def test_the_living_keep_theirs(tmp_path: Path) -> None:
    kept = temp_dirs.hold(PREFIX)
    with temp_dirs.temporary(PREFIX) as first:
        old(kept)
        old(first)
        with temp_dirs.temporary(PREFIX):
            assert set(kept.parent.iterdir()) >= {kept, first}
