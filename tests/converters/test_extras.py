"""Errors about a missing extra name the command of the tool that made the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from ort_rknn_converters.extras import EXTRA, install_command


@pytest.mark.parametrize(
    ("note", "command"),
    [
        ("pyvenv.cfg", 'pip install "ort-rknn[convert]"'),
        ("pipx_metadata.json", 'pipx install --force "ort-rknn[convert]"'),
        ("uv-receipt.toml", 'uv tool install --force "ort-rknn[convert]"'),
    ],
)
def test_the_command_is_that_of_the_tool(tmp_path: Path, note: str, command: str) -> None:
    (tmp_path / note).touch()
    assert install_command("convert", tmp_path) == command


def test_here_it_is_pip() -> None:
    assert EXTRA == 'pip install "ort-rknn[convert]"'
