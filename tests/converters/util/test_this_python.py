"""The interpreter that can be started once more, and hosts that must not be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ort_rknn_converters.util.this_python import this_python

NAME = f"python{sys.version_info[0]}.{sys.version_info[1]}"


def test_an_ordinary_program() -> None:
    assert this_python() == sys.executable


@pytest.mark.parametrize(
    "host", ["", None, "/usr/bin/true", "/usr/sbin/uwsgi", "/nowhere/python3", "/usr/bin/python-config"]
)
def test_a_host_is_never_taken_for_python(host: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", host)
    found = this_python()
    assert Path(found).name == NAME
    assert Path(found).parents[1] in (Path(sys.prefix), Path(sys.base_prefix))


def test_none_to_be_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/true")
    for prefix in ("prefix", "exec_prefix", "base_prefix"):
        monkeypatch.setattr(sys, prefix, str(tmp_path))
    assert this_python() == ""


def test_a_frozen_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert this_python() == ""


def test_a_link_of_another_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "app").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "app"))
    assert this_python() == str(tmp_path / "app")
