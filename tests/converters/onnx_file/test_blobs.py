"""Blobs: what is derived from a file of the cache is kept beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.onnx_file.blobs import BytesBlob, FileBlob, StoredBlob, digest


class Maker:
    """Gives bytes and counts how often."""

    def __init__(self, content: bytes = b"derived") -> None:
        self.content = content
        self.calls = 0

    def __call__(self) -> bytes:
        self.calls += 1
        return self.content


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "npu_0.onnx"
    file.write_bytes(b"source")
    return file


def test_made_once(source: Path) -> None:
    make = Maker()
    made = [StoredBlob(str(source)).derived("rule.onnx", make) for _ in range(2)]
    assert made == [FileBlob(str(source.with_name("npu_0.rule.onnx")))] * 2
    assert made[0].read() == b"derived"
    assert make.calls == 1
    kept = ["npu_0.onnx", "npu_0.rule.onnx", "npu_0.rule.onnx.sha256"]
    assert sorted(file.name for file in source.parent.iterdir()) == kept


@pytest.mark.parametrize("which", ["source", "derived"])
def test_made_again_when_either_file_changed(source: Path, which: str) -> None:
    make = Maker()
    blob = StoredBlob(str(source))
    derived = Path(str(blob.derived("rule.onnx", make).path))
    changed = source if which == "source" else derived
    stamp = changed.stat().st_mtime_ns
    changed.write_bytes(b"changed"[: changed.stat().st_size])  # of the same length, and with the old time stamp
    os.utime(changed, ns=(stamp + 1, stamp + 1))
    assert blob.derived("rule.onnx", make).read() == b"derived"
    assert make.calls == 2


def test_other_rules_have_other_files(source: Path) -> None:
    blob = StoredBlob(str(source))
    assert blob.derived("a.onnx", Maker(b"a")).read() == b"a"
    assert blob.derived("b.onnx", Maker(b"b")).read() == b"b"


def test_bytes_where_nothing_can_be_written(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert StoredBlob(str(source)).derived("rule.onnx", Maker()) == BytesBlob(b"derived")
    assert [file.name for file in source.parent.iterdir()] == ["npu_0.onnx"]


def test_bytes_when_the_entry_was_removed_meanwhile(source: Path) -> None:
    source.unlink()
    assert StoredBlob(str(source)).derived("rule.onnx", Maker()) == BytesBlob(b"derived")


def test_a_maker_that_fails_leaves_nothing(source: Path) -> None:
    def fail() -> bytes:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        StoredBlob(str(source)).derived("rule.onnx", fail)
    assert [file.name for file in source.parent.iterdir()] == ["npu_0.onnx"]


def test_a_file_is_proven_without_being_held(source: Path) -> None:
    FileBlob(str(source), digest(b"source")).check()
    FileBlob(str(source)).check()
    with pytest.raises(CompiledModelError, match="damaged"):
        FileBlob(str(source), digest(b"other")).check()
    with pytest.raises(CompiledModelError, match="cannot read"):
        FileBlob(str(source) + ".gone", digest(b"source")).check()
