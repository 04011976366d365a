"""Which Python has the toolkit."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from ort_rknn_converters.errors import ToolkitBroken, ToolkitMissing
from ort_rknn_converters.toolkit.setup import environment
from ort_rknn_converters.toolkit.setup.environment import (
    ToolkitPython,
    child_environment,
    find_python,
    toolkit_version,
)
from ort_rknn_converters.util.home import NOWHERE


@pytest.fixture(autouse=True)
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("ORT_RKNN_TOOLKIT_PYTHON", raising=False)


def private(version: str = "2.5.0") -> Path:
    python = environment.private_python()
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (environment.toolkit_directory() / "toolkit.json").write_text(json.dumps({"version": version}))
    return python


def importable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "rknn" / "api").mkdir(parents=True)
    (folder / "rknn" / "api" / "__init__.py").write_text("raise SystemError('must not be imported here')")
    info = folder / "rknn_toolkit2-2.3.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rknn-toolkit2\nVersion: 2.3.2\n")
    monkeypatch.syspath_prepend(str(folder))


def test_our_folder_is_where_platformdirs_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from platformdirs import user_cache_path

    monkeypatch.delenv("ORT_RKNN_CACHE_DIR")
    for folder in ("", str(tmp_path)):
        monkeypatch.setenv("XDG_CACHE_HOME", folder)
        assert environment.toolkit_directory() == user_cache_path("ort_rknn") / "toolkit"


def test_none_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ToolkitMissing, match=r"ort-rknn toolkit install.*ORT_RKNN_TOOLKIT_PYTHON"):
        find_python()
    assert toolkit_version() is None
    assert not (tmp_path / "cache").exists()


def test_the_private_one() -> None:
    python = private("2.4.9")
    assert find_python() == ToolkitPython(str(python), "private", "2.4.9")
    assert toolkit_version() == "2.4.9"


def test_a_private_one_whose_base_python_is_gone_does_not_count() -> None:
    python = private()
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert toolkit_version() is None


def test_a_damaged_marker_does_not_count() -> None:
    private()
    for text in ("", "[]", "{"):
        (environment.toolkit_directory() / "toolkit.json").write_text(text)
        assert toolkit_version() is None


def test_one_beside_us_goes_before_the_private_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private()
    importable(tmp_path / "site", monkeypatch)
    assert find_python() == ToolkitPython(sys.executable, "importable", "2.3.2", str(tmp_path / "site"))
    assert "rknn" not in sys.modules


@pytest.mark.parametrize("executable", ["", None, "/usr/bin/true", "/nowhere/python3"])
def test_one_beside_us_needs_a_python_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    private()
    importable(tmp_path / "site", monkeypatch)
    monkeypatch.setattr(sys, "executable", executable)
    found = find_python().python
    assert Path(found).name == f"python{sys.version_info[0]}.{sys.version_info[1]}"
    assert Path(found).parent.parent in (Path(sys.prefix), Path(sys.base_prefix))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert find_python().source == "private"


def test_another_package_of_that_name_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site" / "rknn").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert toolkit_version() is None


def test_the_users_own_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private()
    importable(tmp_path / "site", monkeypatch)
    python = tmp_path / "own" / "bin" / "python"
    (tmp_path / "own" / "lib" / "python3.12" / "site-packages" / "rknn_toolkit2-2.5.0.dist-info").mkdir(parents=True)
    monkeypatch.setenv("ORT_RKNN_TOOLKIT_PYTHON", str(python))
    assert find_python() == ToolkitPython(str(python), "env", "2.5.0")


def test_a_named_one_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_TOOLKIT_PYTHON", "/nowhere/bin/python")
    with pytest.raises(ToolkitMissing, match="ORT_RKNN_TOOLKIT_PYTHON=/nowhere/bin/python cannot be started"):
        find_python()


def test_a_named_one_without_the_toolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_TOOLKIT_PYTHON", sys.executable)
    with pytest.raises(ToolkitMissing, match="has no rknn-toolkit2"):
        find_python()


def test_what_the_child_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    variables = child_environment(ToolkitPython("p", "private", ""), tmp_path)
    assert variables["TMPDIR"] == str(tmp_path)
    assert variables["RKNN_LOG_LEVEL"] == "3"
    assert "PYTHONPATH" not in variables
    assert "PYTHONWARNINGS" not in variables


@pytest.mark.parametrize("source", ["env", "private", "importable"])
def test_nothing_of_the_program_leaks_into_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: environment.Source
) -> None:
    leaking = {"PYTHONPATH": "/ours", "PYTHONOPTIMIZE": "2", "PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"}
    for name, value in leaking.items():
        monkeypatch.setenv(name, value)
    assert not set(leaking) & set(child_environment(ToolkitPython("p", source, ""), tmp_path))


def test_a_toolkit_that_was_found_by_the_path_is_found_by_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/needed")
    found = child_environment(ToolkitPython("p", "importable", "", "/site"), tmp_path)
    assert found["PYTHONPATH"] == "/site:/needed"


def test_a_frozen_programs_libraries_are_not_the_childs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/bundle")
    monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", "/users")
    assert child_environment(ToolkitPython("p", "private", ""), tmp_path)["LD_LIBRARY_PATH"] == "/users"
    monkeypatch.delenv("LD_LIBRARY_PATH_ORIG")
    assert "LD_LIBRARY_PATH" not in child_environment(ToolkitPython("p", "private", ""), tmp_path)


def test_a_named_one_is_asked_without_the_programs_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\ntest -z "$PYTHONPATH" && echo 2.4.1\n')
    python.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("ORT_RKNN_TOOLKIT_PYTHON", str(python))
    assert find_python().version == "2.4.1"


def test_a_named_one_that_is_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_TOOLKIT_PYTHON", "/usr/bin/true")
    with pytest.raises(ToolkitMissing, match="/usr/bin/true is no Python"):
        find_python()


def test_what_is_broken_is_not_called_missing(tmp_path: Path) -> None:
    private().unlink()
    environment.private_python().symlink_to(tmp_path / "gone")
    with pytest.raises(ToolkitBroken, match=r"the Python it was installed for is gone.*--force"):
        find_python()


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_RKNN_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert NOWHERE in environment.toolkit_directory().parents
    assert toolkit_version() is None


def test_a_damaged_note_of_a_failure_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path))
    environment.failure_note().parent.mkdir()
    environment.failure_note().write_bytes(b"the disk\x1b[2J \xff is full\n")
    assert environment.last_failure() == "the disk\\x1b[2J \\ufffd is full"
    environment.failure_note().unlink()
    environment.failure_note().mkdir()
    assert environment.last_failure() == ""


def test_what_is_no_python_is_told_from_one_without_the_toolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment.PYTHON_VARIABLE, "/bin/false")
    with pytest.raises(ToolkitMissing, match=r"is no Python that works: it ended with status 1 \(it says nothing\)"):
        environment.find_python()


def test_a_failed_installation_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ort_rknn_converters.toolkit.status import status

    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv(environment.PYTHON_VARIABLE, raising=False)
    environment.failure_note().parent.mkdir()
    environment.failure_note().write_text("the disk is full. Make room\nERROR of pip\n" * 50)
    assert status().problem.endswith("The last installation failed: the disk is full. Make room")
