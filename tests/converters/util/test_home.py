"""Paths below a home that may not be there."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ort_rknn_converters.util.home import NOWHERE, expanded, no_home


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user: no HOME, no entry."""

    def unknown(_: int) -> pwd.struct_passwd:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/.cache") == Path("/home/me/.cache")
    assert expanded("/x/~") == Path("/x/~")
    assert expanded("relative") == Path("relative")
    assert not no_home(Path("/home/me"))


def test_the_password_file_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    for home in (None, "", " "):
        monkeypatch.delenv("HOME", raising=False)
        if home is not None:
            monkeypatch.setenv("HOME", home)
        assert expanded("~/.cache") == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache"


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("path", ["~/.cache", "~", "~nobody_of_this_name/x"])
def test_no_home_is_nowhere(path: str) -> None:
    assert expanded(path) == NOWHERE
    assert f"user id {os.getuid()}" in no_home(NOWHERE / "models")


@pytest.mark.usefixtures("nobody")
def test_nowhere_cannot_be_made_by_anybody() -> None:
    with pytest.raises(OSError, match="Not a directory"):
        NOWHERE.mkdir(parents=True)


@pytest.mark.usefixtures("nobody")
def test_an_empty_home_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    assert expanded("~/.cache") == NOWHERE
