"""Locks between processes, and file systems that have none."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from ort_rknn_converters.cache.store import Cache, load_or_convert
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.util import file_lock, temp_dirs
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
def test_the_cache_works_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Verdicts are those of a toolkit, which this machine may not have.
    monkeypatch.setattr(import_module("ort_rknn_converters.pipeline.convert"), "toolkit_version", lambda: "2.5.0")
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


@pytest.mark.timeout(30)
def test_a_stopped_holder_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; from pathlib import Path; from ort_rknn_converters.util.file_lock import held\n"
        "with held(Path(sys.argv[1])):\n    print(flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / "l")]
    monkeypatch.setattr(file_lock, "HOLDER_STOPPED_S", 0.1)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert file_lock.holder(tmp_path / "l")[0] == process.pid
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(Timeout), held(tmp_path / "l", timeout=20):
            pass
        process.kill()
    with held(tmp_path / "l", timeout=5):
        pass


@pytest.mark.timeout(20)
def test_a_lock_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="file of our own"), held(tmp_path / name):
            pass
    assert not (tmp_path / "target").exists()
