"""The worker process with its folder and its log: everything is gone when the ``with`` block is left, however it is."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TextIO

from ort_rknn_converters.errors import NpuNotOpened, ToolkitBroken, ToolkitFailed
from ort_rknn_converters.toolkit import log_parser
from ort_rknn_converters.toolkit.npu_access import WITHOUT_NPU, answering_library, npu_obstacle
from ort_rknn_converters.toolkit.setup.environment import ToolkitPython, child_environment, repair
from ort_rknn_converters.util import temp_dirs
from ort_rknn_converters.util.memory import resident

__all__ = ["PREFIX", "Child"]

WORKER = Path(__file__).with_name("worker") / "main.py"
PREFIX = "ort_rknn-compile-"
LOOK_S = 0.25  # how often its memory and its log are measured, a guess
_LONGEST_LINE = 1 << 16  # characters of a line that is passed on at once
GLANCE_S = 0.25  # how often the log is looked at for `on_line`, a guess
MOST_LOG = 64 << 20
"""Bytes of the log on disk; of what is more, the beginning and the end are kept. A guess: large models print 2 MB."""

_HEAD, _END = 4 << 20, 1 << 20  # bytes of the log that are read: the layer table, and the last words
_END_S = 10.0  # seconds a killed child may take to be gone; a guess, it may hang in the kernel


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back while a child or a folder exists that no ``finally`` knows of yet, or while they are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Child:
    """One worker process.

    Attributes:
        toolkit: The interpreter it runs in.
        directory: Its folder: the job goes in, the results come out.
        log: What it prints, as a file.
        most_memory: Bytes of memory it may take before it is ended; ``None``: all there is.
    """

    def __init__(self, toolkit: ToolkitPython) -> None:
        self.toolkit = toolkit
        self._process: subprocess.Popen[bytes] | None = None
        self._alive = -1
        self.most_memory: int | None = None
        self._head = b""  # of a log that was shortened

    def __enter__(self) -> Child:
        with _uninterrupted():
            self.directory, self._lock = temp_dirs.new(PREFIX)
            self.log = self.directory / "log.txt"
            return self

    def start(self) -> None:
        """Start the worker; it gets ready and waits for :meth:`begin`.

        Its end is noticed through a pipe that only it holds open, so that nobody has to poll.

        Raises:
            ToolkitBroken: The interpreter does not start.
            NpuNotOpened: The compiler would crash for want of an NPU that opens.
        """
        if obstacle := npu_obstacle():
            raise NpuNotOpened(f"rknn-toolkit2 cannot compile on this machine: {obstacle}")
        temp_dirs.sweep(self.directory.parent, PREFIX)
        files = self.directory / "tmp"
        files.mkdir()
        with _uninterrupted(), self.log.open("ab") as log:
            self._alive, held = os.pipe()
            try:
                self._process = subprocess.Popen(
                    [self.toolkit.python, str(WORKER), str(self.directory), str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.directory,
                    env=self._environment(files, log),
                    pass_fds=(held,),
                    start_new_session=True,
                )
            except OSError as error:
                raise ToolkitBroken(
                    f"{self.toolkit.python} cannot be started: {error.strerror}. {repair(self.toolkit)}"
                ) from error
            finally:
                os.close(held)

    def said(self) -> str:
        """Returns what it printed: all of it, or of a very long log its beginning and its end."""
        with self.log.open("rb") as log:
            data = self._head or log.read(_HEAD)
            size = os.fstat(log.fileno()).st_size
            if self._head or size > _HEAD + _END:
                log.seek(max(0, size - _END))
                data += b"\n[...]\n"
            return (data + log.read(_END)).decode("utf-8", errors="replace")

    def _shorten(self) -> None:
        """Empty the file of a child that prints without end; it goes on at the new end."""
        with suppress(OSError):
            if self.log.stat().st_size > MOST_LOG:
                with self.log.open("rb+") as log:
                    self._head = self._head or log.read(_HEAD)
                    log.truncate(0)

    def _too_large(self) -> str:
        """Says that the child is ended for its memory; empty while it has not too much."""
        if self.most_memory is None or self._process is None or resident(self._process.pid) <= self.most_memory:
            return ""
        return (
            f"the toolkit took more than the {self.most_memory / 1e9:.1f} GB of memory that it may have. Give it more"
            " (max_memory), or convert on a PC and copy the compiled model"
        )

    def _environment(self, files: Path, log: IO[bytes]) -> dict[str, str]:
        """The child's variables, with the library that answers in the NPU's place where the user wants that."""
        environment = child_environment(self.toolkit, files)
        if answers := answering_library():
            environment["LD_PRELOAD"] = " ".join(filter(None, (answers, environment.get("LD_PRELOAD", ""))))
            log.write(f"{WITHOUT_NPU}: {answers} answers the compiler's questions to the NPU\n".encode())
            log.flush()
        return environment

    def begin(self) -> None:
        """Let the worker begin the job that was written into :attr:`directory`."""
        self._say()

    def go_on(self) -> None:
        """Let it read the feeds, which were written into :attr:`directory` after it had begun."""
        self._say()

    def _say(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead: its exit status will say so
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def wait(
        self, timeout: float, on_line: Callable[[str], None] | None, cancelled: threading.Event | None = None
    ) -> int | None:
        """Wait for the end; returns the exit status, or None after ``timeout`` seconds.

        Raises:
            KeyboardInterrupt: ``cancelled`` was set: the main thread got one and this is another.
        """
        assert self._process is not None
        deadline = time.monotonic() + timeout
        looks = on_line is not None or cancelled is not None
        with self.log.open(encoding="utf-8", errors="replace") as log:
            while True:
                left = max(0.0, deadline - time.monotonic())
                ended, _, _ = select.select([self._alive], [], [], min(left, GLANCE_S if looks else LOOK_S))
                if on_line:
                    _pass_lines(log, on_line)
                if ended:
                    return self._process.wait(_END_S)
                self._shorten()
                if too_large := self._too_large():
                    raise ToolkitFailed(too_large, kind="memory", log=log_parser.tail(log_parser.clean(self.said())))
                if cancelled is not None and cancelled.is_set():
                    raise KeyboardInterrupt
                if time.monotonic() >= deadline:
                    return None

    def __exit__(self, *_: object) -> None:
        with _uninterrupted():
            if self._process is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                with suppress(subprocess.TimeoutExpired):  # it hangs in the kernel: it is killed, and goes when it can
                    self._process.wait(_END_S)
                if self._process.stdin is not None:
                    with suppress(BrokenPipeError):
                        self._process.stdin.close()
            if self._alive >= 0:
                os.close(self._alive)
            temp_dirs.remove(self.directory)
            self._lock.close()


def _pass_lines(log: TextIO, on_line: Callable[[str], None]) -> None:
    """Hand the complete lines that are new to ``on_line``; of one that does not end, the parts."""
    while True:
        at = log.tell()
        if at > os.fstat(log.fileno()).st_size:
            log.seek(0)  # it was shortened
            at = 0
        line = log.readline(_LONGEST_LINE)
        if len(line) < _LONGEST_LINE and not line.endswith("\n"):
            log.seek(at)
            return
        on_line(log_parser.clean(line.rstrip("\n")))
