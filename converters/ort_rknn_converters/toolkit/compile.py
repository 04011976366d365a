"""Compiles one segment in a child process that cannot hurt us.

A crash, a hang or an endless hunger for memory of the vendor's compiler becomes an ordinary exception with the last
lines of its log, and no file or process stays behind.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ort_rknn_converters.array_files import read_array
from ort_rknn_converters.errors import ToolkitFailed
from ort_rknn_converters.toolkit import log_parser
from ort_rknn_converters.toolkit.failures import explain, no_room
from ort_rknn_converters.toolkit.log_parser import LayerRow
from ort_rknn_converters.toolkit.model_io import GraphIO, read_io
from ort_rknn_converters.toolkit.prestart import Standby, Started
from ort_rknn_converters.toolkit.request import CompileRequest, write_feeds, write_job
from ort_rknn_converters.toolkit.retry_without_rule import MOST_RULES, without_broken_rule
from ort_rknn_converters.toolkit.setup.environment import find_python, interpreter
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.memory import free_memory
from ort_rknn_converters.util.own_files import read_own
from ort_rknn_converters.util.plain_data import (
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    WHOLE,
    Misshapen,
    by_name,
    maybe,
    parse_json,
    record,
    rows,
    word,
)

__all__ = ["AnalysedLayer", "CompileRequest", "CompileResult", "LayerRow", "Standby", "compile_segment"]


@frozen
class AnalysedLayer:
    """One row of the vendor's accuracy analysis.

    Attributes:
        op: The toolkit's op type, ``exNorm`` ...
        tensor: The toolkit's name of the layer's output: an ONNX name, maybe with something appended.
        entire: Relative RMS error with everything before it on the simulator; ``None``: not to be had.
        alone: The same of the layer alone, on exact inputs.
    """

    op: str
    tensor: str
    entire: float | None
    alone: float | None


@frozen
class CompileResult:
    """Result of the toolkit for a segment.

    Attributes:
        rknn: The compiled file.
        outputs: Per feed: ONNX output name -> the simulator's answer in ONNX shape. Every floating output is float32.
        seconds: Stage (import, config, load, build, export, simulate) -> wall time; ``total`` includes the process.
        peak_rss: Largest resident size of the child, bytes.
        log: All it printed, without colours.
        layers: The compiler's layer table.
        no_lowering: (tensor, op type) pairs no board can run.
        toolkit_version: Such as ``2.5.0``.
        errors: What the compiler marked as an error though it delivered (see :func:`report.errors`).
        dropped_inputs: ONNX inputs that the toolkit left out of the file (unused ones).
        dropped_outputs: ONNX outputs that it left out (constant, duplicate or passed-through ones).
        analysis: The vendor's accuracy analysis, where it was asked for.
    """

    rknn: bytes
    outputs: tuple[dict[str, NDArray[Any]], ...]
    seconds: Mapping[str, float]
    peak_rss: int
    log: str
    layers: tuple[LayerRow, ...]
    no_lowering: tuple[tuple[str, str], ...]
    toolkit_version: str
    errors: tuple[str, ...] = ()
    dropped_inputs: tuple[str, ...] = ()
    dropped_outputs: tuple[str, ...] = ()
    analysis: tuple[AnalysedLayer, ...] = ()


TIMES_WEIGHTS = 8  # a conversion's memory in sizes of its weights, measured
LEAST_JUDGED = 16 << 20
"""Bytes of a segment from which its memory is estimated before it is tried. A guess: for smaller ones most of it is the
toolkit itself, 250 MB."""

_SIDE = rows(record({"name": TEXT, "dims": rows(WHOLE)}))
_ANSWER = record(
    {"ok": FLAG, "stage": TEXT, "seconds": by_name(NUMBER), "peak_rss": COUNT},
    {
        "version": TEXT,
        "inputs": _SIDE,
        "outputs": _SIDE,
        "answers": rows(by_name(TEXT)),
        "stand_ins": rows(TEXT),
        "analysis": rows(record({"op": TEXT, "tensor": TEXT, "entire": maybe(NUMBER), "alone": maybe(NUMBER)})),
        "kind": word("memory", "refused"),
        "message": TEXT,
        "code": TEXT,
        "error": TEXT,
    },
)
_MOST = 1 << 26  # bytes of the answer; a guess: names and shapes of a segment's borders take some hundred each


def _read(file: Path) -> str:
    return read_own(file, _MOST).decode("utf-8", errors="replace") if file.exists() else ""


def _answer(directory: Path) -> dict[str, Any]:
    """Reads what the child says of its work; empty when it died before.

    Raises:
        ToolkitFailed: It is not of the form the child writes: something overwrote it.
    """
    try:
        text = _read(directory / "result.json")
        return dict(parse_json(text, _ANSWER)) if text else {}
    except (OSError, Misshapen) as error:
        raise ToolkitFailed(f"the toolkit's answer cannot be read ({error})", kind="crashed") from error


def _answers(directory: Path, result: Mapping[str, Any], io: GraphIO) -> tuple[dict[str, NDArray[Any]], ...]:
    """Load the simulator's answers and give them the shapes ONNX says (the toolkit knows no rank 0)."""
    dims = {value.name: value.dims for value in io.outputs}
    answers = []
    for files in result["answers"]:
        try:
            loaded = {name: read_array(directory / "outputs" / Path(file).name) for name, file in files.items()}
        except (OSError, ValueError) as error:
            raise ToolkitFailed(f"the simulator's answers cannot be read ({error})", kind="crashed") from error
        answers.append({name: array.reshape(()) if dims.get(name) == () else array for name, array in loaded.items()})
    return tuple(answers)


def compile_segment(
    request: CompileRequest,
    *,
    python: str | None = None,
    timeout: float = 600.0,
    on_line: Callable[[str], None] | None = None,
    nice: int = 0,
    cancelled: threading.Event | None = None,
    standby: Standby | None = None,
    on_begun: Callable[[], object] | None = None,
    max_memory: int = 0,
) -> CompileResult:
    """Compile one segment with the vendor's toolkit, and run its simulator on the request's feeds.

    Where one of the toolkit's own graph rules fails, it is done again without that rule.

    Args:
        request: What to compile.
        python: Interpreter that has the toolkit; None: the one :func:`find_python` finds.
        timeout: Seconds until the child is killed (600: a guess; ResNet-50 takes 5 s on a PC).
        on_line: Called with each line the toolkit prints, as it comes, in this thread.
        nice: Added to the child's niceness, for conversions in the background.
        cancelled: Set by another thread to end the child: Ctrl-C reaches the main thread only.
        standby: May have a child that is started already; ``python`` does not matter then.
        on_begun: Called whenever a child has its model, before anybody looks at the feeds.
        max_memory: Bytes of memory the child may take; 0: what is free.

    Raises:
        ToolkitMissing: There is no toolkit, or it does not start.
        ToolkitFailed: The toolkit refused the model, crashed, took too long or ran out of memory.
        ConvertError: The disk is full.
        ModelError: ``request.model`` is no ONNX model.
        KeyboardInterrupt: After the child was killed.
    """
    for left in reversed(range(MOST_RULES + 1)):
        try:
            return _compile_once(
                request,
                python=python,
                timeout=timeout,
                on_line=on_line,
                nice=nice,
                cancelled=cancelled,
                standby=standby,
                on_begun=on_begun,
                max_memory=max_memory,
            )
        except ToolkitFailed as error:
            spared = without_broken_rule(request, error) if left else None
            if spared is None:
                raise
        request = spared
    raise AssertionError("the last try returns or raises")


def _room(request: CompileRequest, wanted: int) -> int | None:
    """Bytes of memory a child may take; ``None`` where the system does not say what it has.

    Raises:
        ToolkitFailed: The segment would need more.
    """
    free = free_memory(swap=True)
    room = min(float(wanted or free), free)
    size = len(request.model) + getattr(request.weights, "size", 0)
    needed = TIMES_WEIGHTS * size
    if size >= LEAST_JUDGED and needed > room:
        raise ToolkitFailed(
            f"compiling this part needs about {needed / 1e9:.1f} GB of memory, and "
            + (f"max_memory gives it {room / 1e9:.1f}" if wanted and room < free else f"{room / 1e9:.1f} are free")
            + ". Convert on a PC by `ort-rknn convert MODEL.onnx --target "
            + f"{request.target}` and copy the compiled model, or close other programs",
            kind="memory",
        )
    return None if room == float("inf") else int(room)


def _compile_once(
    request: CompileRequest,
    *,
    python: str | None,
    timeout: float,
    on_line: Callable[[str], None] | None,
    nice: int,
    cancelled: threading.Event | None,
    standby: Standby | None,
    on_begun: Callable[[], object] | None,
    max_memory: int,
) -> CompileResult:
    began = time.perf_counter()
    room = _room(request, max_memory)
    ahead = standby.take() if standby else None
    with ahead or Started(interpreter(python) if python else find_python()) as child:
        child.most_memory = room
        io = read_io(request.model)
        try:
            write_job(request, io, child.directory, nice=nice)
            child.begin()
            if on_begun:
                on_begun()
            write_feeds(request, child.directory)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None):  # numpy says no number
                raise no_room(child.directory.parent) from error
            raise
        child.go_on()
        status = child.wait(timeout, on_line, cancelled)
        log = log_parser.clean(child.said())
        if status is None:
            raise ToolkitFailed(
                f"the toolkit did not finish within {timeout:g} s", kind="timeout", log=log_parser.tail(log)
            )
        result = _answer(child.directory)
        if not result.get("ok"):
            raise explain(child.toolkit, status, _read(child.directory / "stage"), result, log)
        kept_inputs = {entry["name"] for entry in result["inputs"]}
        kept_outputs = {entry["name"] for entry in result["outputs"]}
        return CompileResult(
            rknn=(child.directory / "model.rknn").read_bytes(),
            outputs=_answers(child.directory, result, io),
            seconds={**result["seconds"], "total": time.perf_counter() - began},
            peak_rss=result["peak_rss"],
            log=log,
            layers=log_parser.layers(log),
            no_lowering=log_parser.no_lowering(log),
            toolkit_version=result["version"],
            errors=log_parser.errors(log),
            dropped_inputs=tuple(value.name for value in io.inputs if value.name not in kept_inputs),
            dropped_outputs=tuple(value.name for value in io.outputs if value.name not in kept_outputs),
            analysis=tuple(AnalysedLayer(**row) for row in result["analysis"]),
        )
