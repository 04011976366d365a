"""Files that somebody else prepared: nothing is followed, waited for or believed."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from ort_rknn_converters.util import own_files
from ort_rknn_converters.util.own_files import (
    NoRegularFile,
    is_plain_name,
    make_private,
    not_ours,
    open_own,
    open_regular,
    read_given,
    read_own,
    write_given,
    write_own,
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket", "NUL"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path: str | Path = tmp_path / "f"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        (tmp_path / "f").mkdir()
    elif kind == "device":
        path = "/dev/zero"
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    else:
        path = "a\0b"
    with pytest.raises(OSError, match=r"no file|directory|No such device|name"):
        open_regular(path)


def test_a_users_file_may_be_a_link_and_ours_may_not(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    with open_regular(tmp_path / "link") as followed, open_own(tmp_path / "real") as ours:
        assert followed.read() == ours.read() == b"x"
    with pytest.raises(OSError, match="symbolic links"):
        open_own(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    os.chown(tmp_path / "f", 1234, 1234)
    with pytest.raises(PermissionError, match="belongs to user 1234"):
        open_own(tmp_path / "f")


def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_own(tmp_path / "f", 4)


def test_what_is_made_is_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = make_private(tmp_path / "a" / "b")
        write_own(folder / "f", "x")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (folder.parent, folder, folder / "f")] == [0o700, 0o700, 0o600]
    with pytest.raises(FileExistsError):
        write_own(folder / "f", "y")


@pytest.mark.parametrize(("mode", "ours"), [(0o700, True), (0o755, True), (0o757, False), (0o1777, False)])
def test_folders_others_can_write_to_are_not_ours(tmp_path: Path, mode: int, ours: bool) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    assert (not_ours(folder) == "") is ours


def test_below_a_folder_like_tmp_our_own_is_ours(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    assert not_ours(tmp_path / "not made yet") == ""
    (tmp_path / "mine").mkdir(mode=0o700)
    assert not_ours(tmp_path / "mine") == ""
    tmp_path.chmod(0o777)  # where everybody can rename it
    assert "others can write" in not_ours(tmp_path / "mine")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_folders_of_others_are_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_files, "_has_nameless_users", lambda: False)
    for path in (tmp_path / "cache", tmp_path / "home" / "cache"):
        path.mkdir(parents=True)
    os.chown(tmp_path / "cache", 1234, 1234)
    os.chown(tmp_path / "home", 1234, 1234)
    assert "belongs to user 1234" in not_ours(tmp_path / "cache")
    assert "belongs to user 1234" in not_ours(tmp_path / "home" / "cache")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\0", "x" * 300, None, 7])
def test_names_that_lead_elsewhere(name: object) -> None:
    assert not is_plain_name(name)
    assert is_plain_name("npu_0.rk3588.rknn")


def test_no_regular_file_is_an_os_error() -> None:
    assert issubclass(NoRegularFile, OSError)


def test_a_users_pipe_is_read_to_its_end_and_written_to_its_reader(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_given(pipe, 1 << 20)))
    reader.start()
    with pipe.open("wb") as writer:  # waits for the reader
        writer.write(b"x" * 200_000)
    reader.join(20)
    assert got == [b"x" * 200_000]
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_given(pipe, "a\n")
    assert os.read(end, 10) == b"a\n"
    os.close(end)


@pytest.mark.timeout(20)
def test_a_pipe_without_another_end_is_not_waited_for_without_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_files, "OTHER_END_S", 0.05)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match=r"nothing came through the pipe for 0.05 s"):
        read_given(pipe, 10)
    with pytest.raises(OSError, match="nobody reads the pipe"):
        write_given(pipe, "x")
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # and never reads
    with pytest.raises(OSError, match="nothing came through"):
        write_given(pipe, "x" * 1_000_000)
    os.close(end)
    with pytest.raises(OSError, match="No space left"):
        write_given("/dev/full", "x")


def test_a_file_that_gives_nothing_is_no_file() -> None:
    """The kernel's log looks like a file; a reader that does not wait gets nothing from it."""

    class Silent:
        def read(self, _: int) -> None:
            return None

    with pytest.raises(NoRegularFile, match="gives nothing"):
        own_files._content(Silent(), "kmsg", 10)  # type: ignore[arg-type]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give links away")
def test_a_link_of_somebody_else_on_the_way_is_not_ours(tmp_path: Path) -> None:
    """It leads to a good folder while it is looked at, and to another one later."""
    tmp_path.chmod(0o1777)
    (tmp_path / "mine" / "deep").mkdir(parents=True, mode=0o700)
    (tmp_path / "link").symlink_to("mine")
    (tmp_path / "far").symlink_to(tmp_path / "link" / "deep")
    for path in ("link", "link/deep", "far", "far/not made yet", "mine/../link/deep"):
        assert not_ours(tmp_path / path) == ""
    os.lchown(tmp_path / "link", 1234, 1234)
    for path in ("link", "link/deep", "far", "far/not made yet", "mine/../link/deep"):
        assert "is a link that user 1234 made" in not_ours(tmp_path / path)
    assert not_ours(tmp_path / "mine" / "deep") == ""


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert not_ours(tmp_path / "a" / "cache") == ""  # nobody can open it
