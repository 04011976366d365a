"""``ort-rknn toolkit``, as a user runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ort_rknn_converters.cli.toolkit import command
from ort_rknn_converters.toolkit.status import prove


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def flat(result: Result) -> str:
    """The output without the terminal's line breaks."""
    return " ".join(result.output.split())


@pytest.fixture
def none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("ORT_RKNN_TOOLKIT_PYTHON", raising=False)


@pytest.mark.toolkit
def test_status_of_a_toolkit_that_works() -> None:
    result = run("status")
    assert result.exit_code == 0, result.output
    assert "2.5.0" in result.output
    assert "yes, two nodes converted and simulated" in flat(result)


@pytest.mark.usefixtures("none")
def test_status_without_a_toolkit() -> None:
    result = run("status")
    assert result.exit_code == 1
    assert "no: rknn-toolkit2 was not found. Run `ort-rknn toolkit install`" in flat(result)


def test_status_of_a_toolkit_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text('#!/bin/sh\necho "ImportError: libGL.so.1" >&2\nexit 1\n')
    python.chmod(0o755)
    (tmp_path / "lib" / "python3.11" / "site-packages" / "rknn_toolkit2-2.5.0.dist-info").mkdir(parents=True)
    monkeypatch.setenv("ORT_RKNN_TOOLKIT_PYTHON", str(python))
    result = run("status")
    assert result.exit_code == 1
    assert "named by ORT_RKNN_TOOLKIT_PYTHON" in result.output
    assert "ImportError: libGL.so.1" in flat(result)


@pytest.mark.toolkit
def test_path_of_a_toolkit() -> None:
    result = run("path")
    assert result.exit_code == 0
    assert Path(result.output.strip()).name.startswith("python")


@pytest.mark.usefixtures("none")
def test_path_without_a_toolkit() -> None:
    result = run("path")
    assert result.exit_code == 1
    assert "ort-rknn toolkit install" in result.output


@pytest.mark.usefixtures("none")
def test_install_that_fails_says_why() -> None:
    result = run("install", "--python", "/nowhere/python")
    assert result.exit_code == 1
    assert "Not installed: /nowhere/python is no Python that starts" in flat(result)


@pytest.mark.usefixtures("none")
def test_install_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    from ort_rknn_converters.cli import toolkit
    from ort_rknn_converters.toolkit.setup.environment import ToolkitPython

    asked: dict[str, object] = {}

    def install(progress: object, **options: object) -> ToolkitPython:
        asked.update(options)
        assert callable(progress)
        progress("Downloading [41 MB]")
        return ToolkitPython(sys.executable, "private", "2.5.0")

    monkeypatch.setattr(toolkit, "install", install)
    result = run("install", "--pip", "--force")
    assert result.exit_code == 0
    assert "rknn-toolkit2 2.5.0 works" in result.output
    expected = {"prove": prove, "python": None, "force": True, "use_uv": False, "wheels": None, "index": None}
    assert asked == expected


@pytest.mark.usefixtures("none")
def test_uninstall_removes_the_private_environment_alone(tmp_path: Path) -> None:
    toolkit = tmp_path / "cache" / "toolkit"
    (toolkit / "env").mkdir(parents=True)
    (toolkit / "env" / "file").write_bytes(bytes(2_000_000))
    (tmp_path / "cache" / "models").mkdir()
    result = run("uninstall")
    assert result.exit_code == 0, result.output
    assert f"removed {toolkit} (2 MB)" in flat(result)
    assert not toolkit.exists()
    assert (tmp_path / "cache" / "models").exists()
    assert "nothing to remove: there is no private environment" in flat(run("uninstall"))
