"""``ort-rknn info FILE``: what is in a bare ``.rknn`` file, a compiled model or an ONNX model."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ort_rknn_converters.compiled.model import is_compiled
from ort_rknn_converters.errors import ConvertError
from ort_rknn_converters.rknn_format.reader import is_rknn
from ort_rknn_converters.util.foreign_text import shown_lines
from ort_rknn_converters.util.own_files import open_regular

__all__ = ["command"]

BAD_FILE = 2  # exit code
_PIPED_WIDTH = 160  # where no terminal says its own: tables that go to a file need not be folded to 80


@click.command("info")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--nodes", is_flag=True, help="Also list the layers inside a compiled model's code.")
@click.option("--tensors", is_flag=True, help="Also list every tensor of the compiled code with its scale.")
def command(file: Path, as_json: bool, nodes: bool, tensors: bool) -> None:
    """Show what FILE holds: inputs, outputs, layouts, quantization, target, toolkit and where each node runs."""
    own_width = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if own_width else _PIPED_WIDTH)
    try:
        data = _show(file, console, as_json, nodes, tensors)
    except (ConvertError, OSError) as error:
        reason = f"{file}: {error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)
        click.echo(f"Error: {shown_lines(reason)}", err=True)
        sys.exit(BAD_FILE)
    if as_json:
        click.echo(json.dumps(_finite(data), indent=2))  # ASCII: foreign text controls no terminal


def _show(file: Path, console: Console, as_json: bool, nodes: bool, tensors: bool) -> dict[str, Any]:
    """Show the file, whatever it is; only what reads its kind is imported."""
    with open_regular(file) as stream:
        bare = is_rknn(stream.read(8))
    if bare:
        from ort_rknn_converters.cli import info_rknn

        return info_rknn.bare(file, console, as_json, tensors)
    if is_compiled(file):
        from ort_rknn_converters.cli import info_compiled

        return info_compiled.compiled(file, console, as_json, nodes, tensors)
    from ort_rknn_converters.cli import info_onnx

    return info_onnx.plain(file, console, as_json)


def _finite(data: Any) -> Any:
    """Replaces NaN and infinity by None, as JSON has no words for them."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
