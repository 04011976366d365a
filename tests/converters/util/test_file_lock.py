"""Locks between processes, and file systems that have none."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from ort_rknn_converters.cache.store import Cache, load_or_convert
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.util import temp_dirs
from ort_rknn_converters.util.file_lock import has_locks, held
from tests.helpers.conversions import model
from tests.helpers.toolkits.scripted import ScriptedToolkit


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    has_locks.cache_clear()
    yield
    has_locks.cache_clear()


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO])
def lockless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file can be locked, as on NFS without a lock daemon."""

    def refuse(*_: Any) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_one_at_a_time(tmp_path: Path) -> None:
    waited: list[int] = []
    with (
        held(tmp_path / "l"),
        pytest.raises(Timeout),
        held(tmp_path / "l", timeout=0, waiting=lambda: waited.append(1)),
    ):
        pass
    assert waited == [1]
    with held(tmp_path / "l", timeout=0, waiting=lambda: waited.append(2)):
        pass
    assert waited == [1]


@pytest.mark.usefixtures("lockless")
def test_without_locks_nobody_waits(tmp_path: Path) -> None:
    with held(tmp_path / "l"), held(tmp_path / "l"):
        assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"), held(tmp_path / "none" / "l"):
        pass


@pytest.mark.usefixtures("lockless")
def test_the_cache_works_without_locks(tmp_path: Path) -> None:
    toolkit = ScriptedToolkit(crashes=frozenset({"Tanh"}))
    for _ in range(2):
        found = load_or_convert(
            model().SerializeToString(), ConvertOptions(min_gain=0), cache_dir=tmp_path, compile=toolkit
        )
        assert found.npu_steps
    tried = len(toolkit.requests)
    assert len(Cache(tmp_path).entries()) == 1
    assert Cache(tmp_path).clear() > 0
    assert not Cache(tmp_path).entries()
    load_or_convert(model().SerializeToString(), ConvertOptions(min_gain=0), cache_dir=tmp_path, compile=toolkit)
    assert len(toolkit.requests) < 2 * tried  # the verdicts were written, too


@pytest.mark.usefixtures("lockless")
def test_temporary_folders_work_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temp_dirs.temporary("ort_rknn-test-") as folder:
        assert folder.is_dir()
        with temp_dirs.temporary("ort_rknn-test-"):
            assert folder.is_dir()  # not taken for one that nobody needs
    assert not list(tmp_path.iterdir())
