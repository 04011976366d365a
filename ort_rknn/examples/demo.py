"""``ort-rknn demo``: the README's program on this machine, with its plan, and its answer beside onnxruntime's."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PROGRAM", "command"]

PROGRAM = """\
import numpy as np
import ort_rknn as ort  # was: import onnxruntime as ort
from ort_rknn.examples import EDGES

session = ort.InferenceSession(EDGES)  # an ordinary ONNX file
image = np.random.default_rng(0).random((1, 3, 128, 128), np.float32)
(edges,) = session.run(None, {"image": image})
print(session.get_providers(), edges.shape)
print(session.plan)  # which node runs where, and why
"""
"""The README's program, word for word."""

_PRETENDED = ("simulator", "toolkit", "fake")
_RUNS, _SECONDS = 20, 0.5  # most runs, of which the fastest counts, and the longest they take: guesses


@click.command("demo")
@click.option("--device", help="What a session's option device takes: auto, npu, simulator, cpu. Default: auto.")
@click.option("--compiled", is_flag=True, help="Open the file that was compiled beforehand, toolkit or not.")
def command(device: str | None, compiled: bool) -> None:
    """Run the README's program here, say which node runs where, and compare with onnxruntime.

    Exit code 0: the answers agree. 1: they do not.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    why = "as asked for" if compiled else _why_compiled()
    program = PROGRAM.replace("EDGES", "EDGES_COMPILED").replace(
        "# an ordinary ONNX file", "# the same, compiled beforehand"
    )
    program = program if why else PROGRAM
    if why:
        click.echo(f"The compiled file is opened: {why}.\n")
    click.echo("".join(f"    {line}\n" for line in program.splitlines()))
    made: dict[str, Any] = {}
    with _device(device):
        exec(compile(program, "demo", "exec"), made)
        session, image, answer = made["session"], made["image"], made["edges"]
        try:
            same, said = _compared(session, image, answer)
        finally:
            session.close()
    click.echo(f"\n{said}")
    if "RKNNExecutionProvider" not in session.get_providers() and device is None:
        click.echo("No NPU was used. `ort-rknn demo --device simulator` runs as one would; `ort-rknn doctor` says why.")
    raise SystemExit(0 if same else 1)


def _why_compiled() -> str:
    """Says why the ONNX file cannot be compiled here; empty where it can."""
    from ort_rknn_converters.errors import ToolkitMissing
    from ort_rknn_converters.extras import COMPLETE, EXTRA
    from ort_rknn_converters.toolkit.npu_access import npu_obstacle
    from ort_rknn_converters.toolkit.setup.environment import find_python

    if not COMPLETE:
        return f"nothing is converted here without `{EXTRA}`"
    try:
        find_python()
    except ToolkitMissing:
        return "there is no toolkit here (`ort-rknn toolkit install`)"
    return "the toolkit cannot compile on this machine" if npu_obstacle() else ""


@contextmanager
def _device(name: str | None) -> Iterator[None]:
    """Let sessions of the ``with`` block take this device."""
    before = os.environ.get("ORT_RKNN_DEVICE")
    if name is not None:
        os.environ["ORT_RKNN_DEVICE"] = name
    try:
        yield
    finally:
        if name is not None:
            os.environ.pop("ORT_RKNN_DEVICE")
            if before is not None:
                os.environ["ORT_RKNN_DEVICE"] = before


def _compared(session: Any, image: Any, answer: Any) -> tuple[bool, str]:
    """Compare with onnxruntime alone: whether the answers agree, and a sentence."""
    import numpy as np
    import onnxruntime

    from ort_rknn.examples import EDGES
    from ort_rknn_converters.numerics.tensor_error import compare

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    alone = onnxruntime.InferenceSession(EDGES, options, providers=["CPUExecutionProvider"])
    (want,) = alone.run(None, {"image": image})
    error = compare(want, np.asarray(answer)).rel_rms
    ours, theirs = _fastest(session, image), _fastest(alone, image)
    agree = bool(error < 0.01)  # ten times what fp16 costs this model
    said = f"{'Right' if agree else 'WRONG'}: off from onnxruntime by {error:.1e} (relative RMS)."
    if os.environ.get("ORT_RKNN_DEVICE") in _PRETENDED:
        return agree, f"{said} No time is shown: the NPU was pretended."
    return agree, f"{said} One run here: {ours:.1f} ms; onnxruntime's on this CPU: {theirs:.1f} ms."


def _fastest(session: Any, image: Any) -> float:
    """Milliseconds of the fastest of some runs."""
    times: list[float] = []
    while not times or (len(times) < _RUNS and sum(times) < _SECONDS):
        begun = time.perf_counter()
        session.run(None, {"image": image})
        times.append(time.perf_counter() - begun)
    return min(times) * 1000
