"""Pinned files: their content outlives removal and replacement."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.onnx_file.blobs import FileBlob, StoredBlob, digest
from ort_rknn_converters.onnx_file.pinned_blobs import PinnedBlob, pinned


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "npu_0.rk3588.rknn"
    path.write_bytes(b"code")
    return path


def test_a_file_that_is_there_is_opened_by_its_own_name(file: Path) -> None:
    assert pinned(FileBlob(str(file))).path == str(file)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_the_content_stays(file: Path, how: str) -> None:
    blob = pinned(FileBlob(str(file)))
    if how == "removed":
        file.unlink()
    else:
        other = file.with_name("new")
        other.write_bytes(b"other code")
        other.replace(file)
    assert (blob.read(), blob.size, blob.digest()) == (b"code", 4, digest(b"code"))
    assert blob.path is not None
    assert blob.path != str(file)
    assert Path(blob.path).read_bytes() == b"code"


def test_what_was_derived_of_a_removed_file_is_not_kept_beside_another(file: Path) -> None:
    blob = pinned(StoredBlob(str(file)))
    assert isinstance(blob, PinnedBlob)
    assert blob.derived("rule", lambda: b"first").path is not None
    file.unlink()
    file.write_bytes(b"another model")
    assert blob.derived("rule", lambda: b"again").read() == b"again"
    assert blob.derived("rule", lambda: b"again").path is None


def test_what_was_changed_in_its_place_is_refused(file: Path) -> None:
    blob = pinned(FileBlob(str(file), digest(b"code")))
    assert blob.read() == b"code"
    file.write_bytes(b"edoc")
    with pytest.raises(CompiledModelError, match="is damaged"):
        blob.read()


def test_the_descriptor_is_closed_with_the_blob(file: Path) -> None:
    blob = pinned(FileBlob(str(file)))
    assert isinstance(blob, PinnedBlob)
    fd = blob.fd
    os.fstat(fd)
    del blob
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_program_keeps_half_of_its_descriptors(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 4))
    before = set(Path("/proc/self/fd").iterdir())
    assert pinned(FileBlob(str(file))) == FileBlob(str(file))
    assert len(set(Path("/proc/self/fd").iterdir()) - before) == 0


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        pinned(FileBlob(str(tmp_path / "none")))
