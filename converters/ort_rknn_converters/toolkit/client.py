"""Compiles one segment in a child process that cannot hurt us.

A crash, a hang or an endless hunger for memory of the vendor's compiler becomes an ordinary exception with the last
lines of its log, and no file or process stays behind.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from ort_rknn_converters.errors import ToolkitFailed
from ort_rknn_converters.toolkit import report
from ort_rknn_converters.toolkit.environment import ToolkitPython, child_environment, find_python
from ort_rknn_converters.toolkit.onnx_io import GraphIO, read_io
from ort_rknn_converters.toolkit.report import LayerRow
from ort_rknn_converters.toolkit.request import CompileRequest, write_job

__all__ = ["CompileRequest", "CompileResult", "LayerRow", "compile_segment"]

WORKER = Path(__file__).with_name("worker.py")
GLANCE_S = 0.25  # how often the log is looked at for `on_line`, a guess
_NO_MEMORY = re.compile(r"MemoryError|bad_alloc|Cannot allocate memory|out of memory", re.IGNORECASE)
_LAST_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception|Warning|Interrupt|Exit)\b(?::|$)")


@dataclass(frozen=True)
class CompileResult:
    """What the toolkit made of a segment.

    Attributes:
        rknn: The compiled file.
        outputs: Per feed: ONNX output name -> the simulator's answer in ONNX shape. Every floating output is float32.
        seconds: Stage (import, config, load, build, export, simulate) -> wall time; ``total`` includes the process.
        peak_rss: Largest resident size of the child, bytes.
        log: All it printed, without colours.
        layers: The compiler's layer table.
        no_lowering: (tensor, op type) pairs no board can run.
        toolkit_version: Such as ``2.5.0``.
        dropped_inputs: ONNX inputs that the toolkit left out of the file (unused ones).
        dropped_outputs: ONNX outputs that it left out (constant, duplicate or passed-through ones).
    """

    rknn: bytes
    outputs: tuple[dict[str, NDArray[Any]], ...]
    seconds: Mapping[str, float]
    peak_rss: int
    log: str
    layers: tuple[LayerRow, ...]
    no_lowering: tuple[tuple[str, str], ...]
    toolkit_version: str
    dropped_inputs: tuple[str, ...] = ()
    dropped_outputs: tuple[str, ...] = ()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back while a child or a folder exists that no `finally` knows of yet, or while they are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Child:
    """The worker process, its folder and its log; everything is gone when the ``with`` block is left."""

    def __init__(self, toolkit: ToolkitPython) -> None:
        self._toolkit = toolkit
        self._process: subprocess.Popen[bytes] | None = None
        self._alive = -1

    def __enter__(self) -> _Child:
        self.directory = Path(tempfile.mkdtemp(prefix="ort_rknn-compile-"))
        self.log = self.directory / "log.txt"
        return self

    def start(self) -> None:
        """Start the worker on the job written into :attr:`directory`.

        Its end is noticed through a pipe that only it holds open, so that nobody has to poll.
        """
        scratch = self.directory / "tmp"
        scratch.mkdir()
        self._alive, held = os.pipe()
        try:
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    [self._toolkit.python, str(WORKER), str(self.directory)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.directory,
                    env=child_environment(self._toolkit, scratch),
                    pass_fds=(held,),
                    start_new_session=True,
                )
        finally:
            os.close(held)

    def wait(self, timeout: float, on_line: Callable[[str], None] | None) -> int | None:
        """Wait for the end; returns the exit status, or None after ``timeout`` seconds."""
        assert self._process is not None
        deadline = time.monotonic() + timeout
        with self.log.open(encoding="utf-8", errors="replace") as log:
            while True:
                left = deadline - time.monotonic()
                ended, _, _ = select.select([self._alive], [], [], max(0.0, min(left, GLANCE_S) if on_line else left))
                if on_line:
                    _pass_lines(log, on_line)
                if ended:
                    return self._process.wait()
                if time.monotonic() >= deadline:
                    return None

    def __exit__(self, *_: object) -> None:
        with _uninterrupted():
            if self._process is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            if self._alive >= 0:
                os.close(self._alive)
            shutil.rmtree(self.directory, ignore_errors=True)


def _pass_lines(log: TextIO, on_line: Callable[[str], None]) -> None:
    """Hand the complete lines that are new to ``on_line``."""
    while True:
        at = log.tell()
        line = log.readline()
        if not line.endswith("\n"):
            log.seek(at)
            return
        on_line(report.clean(line.rstrip("\n")))


def _sentence(text: str) -> str:
    """The message at the end of the traceback that the toolkit's exceptions carry as their text."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for number in range(len(lines) - 1, -1, -1):
        if _LAST_EXCEPTION.match(lines[number]):
            return " ".join(lines[number:])
    return lines[-1] if lines else ""


def _failure(status: int, result: Mapping[str, Any] | None, log: str) -> ToolkitFailed:
    """The exception for a child that did not deliver."""
    last = report.tail(log)
    if result is None:
        if status == -signal.SIGKILL or _NO_MEMORY.search(last):
            return ToolkitFailed(
                "the toolkit ran out of memory (a conversion needs about 8 times the size of the weights). Convert on a"
                " machine with more memory and copy the compiled model",
                kind="memory",
                log=last,
            )
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return ToolkitFailed(f"the toolkit's compiler crashed ({name})", kind="crashed", log=last)
    message = str(result.get("message", ""))
    if result.get("kind") == "memory" or _NO_MEMORY.search(message):
        return ToolkitFailed(
            f"the toolkit ran out of memory during {result['stage']}: {_sentence(message)}", kind="memory", log=last
        )
    reason = _sentence(message) or report.last_error(log) or str(result.get("code", "no reason given"))
    return ToolkitFailed(f"the toolkit refused the model during {result['stage']}: {reason}", kind="refused", log=last)


def _answers(directory: Path, result: Mapping[str, Any], io: GraphIO) -> tuple[dict[str, NDArray[Any]], ...]:
    """Load the simulator's answers and give them the shapes ONNX says (the toolkit knows no rank 0)."""
    dims = {value.name: value.dims for value in io.outputs}
    answers = []
    for files in result["answers"]:
        loaded = {name: np.load(directory / file, allow_pickle=False) for name, file in files.items()}
        answers.append({name: array.reshape(()) if dims.get(name) == () else array for name, array in loaded.items()})
    return tuple(answers)


def compile_segment(
    request: CompileRequest,
    *,
    python: str | None = None,
    timeout: float = 600.0,
    on_line: Callable[[str], None] | None = None,
    nice: int = 0,
) -> CompileResult:
    """Compile one segment with the vendor's toolkit, and run its simulator on the request's feeds.

    Args:
        request: What to compile.
        python: Interpreter that has the toolkit; None: the one :func:`find_python` finds.
        timeout: Seconds until the child is killed (600: a guess; ResNet-50 takes 5 s on a PC).
        on_line: Called with each line the toolkit prints, as it comes, in this thread.
        nice: Added to the child's niceness, for conversions in the background.

    Raises:
        ToolkitMissing: There is no toolkit.
        ToolkitFailed: The toolkit refused the model, crashed, took too long or ran out of memory.
        ModelError: ``request.model`` is no ONNX model.
        KeyboardInterrupt: After the child was killed.
    """
    began = time.perf_counter()
    toolkit = ToolkitPython(python, "env", "") if python else find_python()
    io = read_io(request.model)
    child = _Child(toolkit)
    with _uninterrupted():
        child.__enter__()
    try:
        write_job(request, io, child.directory, nice=nice)
        with _uninterrupted():
            child.start()
        status = child.wait(timeout, on_line)
        log = report.clean(child.log.read_text(encoding="utf-8", errors="replace"))
        if status is None:
            raise ToolkitFailed(
                f"the toolkit did not finish within {timeout:g} s", kind="timeout", log=report.tail(log)
            )
        result_file = child.directory / "result.json"
        result = json.loads(result_file.read_text(encoding="utf-8")) if result_file.exists() else None
        if result is None or not result["ok"]:
            raise _failure(status, result, log)
        kept_inputs = {entry["name"] for entry in result["inputs"]}
        kept_outputs = {entry["name"] for entry in result["outputs"]}
        return CompileResult(
            rknn=(child.directory / "model.rknn").read_bytes(),
            outputs=_answers(child.directory, result, io),
            seconds={**result["seconds"], "total": time.perf_counter() - began},
            peak_rss=result["peak_rss"],
            log=log,
            layers=report.layers(log),
            no_lowering=report.no_lowering(log),
            toolkit_version=result["version"],
            dropped_inputs=tuple(value.name for value in io.inputs if value.name not in kept_inputs),
            dropped_outputs=tuple(value.name for value in io.outputs if value.name not in kept_outputs),
        )
    finally:
        child.__exit__()
