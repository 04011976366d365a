"""The extra ``convert``: whether its packages are installed, and the error that names it. Imports none of them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from ort_rknn_converters.errors import ExtraMissing

__all__ = ["COMPLETE", "EXTRA", "demand_complete", "install_command"]

COMPLETE = find_spec("onnx") is not None and find_spec("onnx_ir") is not None
"""Whether both packages are installed: what converts needs them."""


def install_command(extra: str, environment: str | Path = sys.prefix) -> str:
    """The command that adds an extra to the environment this package is in: that of the tool which made it.

    Args:
        extra: Name of the extra.
        environment: The environment's folder. pipx and uv leave a file of their own there; pip cannot add to theirs.
    """
    for note, tool in (("pipx_metadata.json", "pipx"), ("uv-receipt.toml", "uv tool")):
        if (Path(environment) / note).exists():
            return f'{tool} install --force "ort-rknn[{extra}]"'
    return f'pip install "ort-rknn[{extra}]"'


EXTRA = install_command("convert")
"""The command that installs them."""


def demand_complete(doing: str) -> None:
    """Refuse what needs onnx and onnx-ir where they are not installed.

    Args:
        doing: What it is, at the beginning of a sentence: ``"converting a model"``.

    Raises:
        ExtraMissing: They are not; the message names the extra.
    """
    if not COMPLETE:
        raise ExtraMissing(
            f"{doing} needs the packages onnx and onnx-ir, which are not installed: {EXTRA}. Models that were compiled"
            " before open without them"
        )
