"""The ``ort-rknn`` command: subcommands from entry points, loaded when needed."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import onnxruntime
import pytest
from click.testing import CliRunner

from ort_rknn import cli
from tests.helpers.without_onnx import python


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"toolkit": "ort_rknn_converters.cli.toolkit:command", "gone": "no_such_package.cli:command"}
    found = {name: EntryPoint(name, value, cli.GROUP) for name, value in values.items()}
    monkeypatch.setattr(cli, "_points", lambda: found)


@pytest.mark.usefixtures("points")
def test_help_lists_the_commands() -> None:
    result = CliRunner().invoke(cli.main, ["--help"])
    assert result.exit_code == 0
    assert "toolkit  Install rknn-toolkit2" in result.output
    assert "gone     Cannot be loaded (ModuleNotFoundError" in result.output


@pytest.mark.usefixtures("points")
def test_a_broken_command_says_why() -> None:
    result = CliRunner().invoke(cli.main, ["gone", "--x", "1"])
    assert result.exit_code == 1
    assert "the command gone cannot be loaded: ModuleNotFoundError: No module named 'no_such_package'" in result.output


@pytest.mark.usefixtures("points")
def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(cli.main, ["nope"])
    assert result.exit_code == 2
    assert "No such command 'nope'" in result.output


def test_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "version", lambda name: {"ort-rknn": "1.2.3"}.get(name, onnxruntime.__version__))
    result = CliRunner().invoke(cli.main, ["--version"])
    assert result.output.strip() == f"ort-rknn 1.2.3 (onnxruntime {onnxruntime.__version__})"


def test_commands_that_need_no_extra_are_there_without_it() -> None:
    """``toolkit`` was not: an owner who had installed ort-rknn alone could not even ask what there is."""
    code = """
from click.testing import CliRunner
from ort_rknn.cli import main
for name in sorted(main.list_commands(None)):
    print(name, CliRunner().invoke(main, [name, "--help"]).output.startswith("Usage: "))
print(CliRunner().invoke(main, ["check", "--target", "rk3588", "model.onnx"]).output)
print(CliRunner().invoke(main, ["toolkit", "path"]).exit_code in (0, 1))
print(CliRunner().invoke(main, ["cache", "clear", "--help"]).output)
assert not {"onnx", "onnx_ir"} & set(sys.modules)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.endswith(" False")] == ["check", "conformance"]
    assert "Error: check needs the package onnx, which is not installed and which an extra brings: pip" in done.stdout
    assert "True" in lines
    assert "what was learned about single nodes" in done.stdout
