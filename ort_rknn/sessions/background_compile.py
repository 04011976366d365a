"""Compiles in the background: one conversion at a time in the whole process, each in a child of low priority.

A thread takes the requests in order and ends when there are none. Whoever made one can take it back at any moment; the
child that works on it is then killed, as at the end of the interpreter.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn_converters.compiled.model import CompiledModel
    from ort_rknn_converters.options import ConvertOptions
    from ort_rknn_converters.toolkit.compile import CompileResult

__all__ = ["BackgroundRequest", "CancelToken", "Cancelled", "compile_in_child", "compile_later", "usable_cache"]

_START = (
    "import sys; sys.path[:] = [entry for entry in sys.path if entry]; "  # not the working folder, whatever lies there
    "import json; folder = sys.argv[1]; sys.path[:] = json.load(open(folder + '/path.json')); "
    "from ort_rknn_converters.cache.child_main import main; main(folder)"
)


_MOST, _END_OF_LOG = 1 << 20, 1 << 14  # bytes of an answer, which may hold a log's end; and of a log that are read
CLEAN_UP_S = 5.0
"""Seconds the end of a program waits for the files of a conversion to be removed. A guess: a moment is enough."""


class Cancelled(Exception):
    """Nobody waits for the result any more."""


class CancelToken:
    """One requester's right to have things compiled, and the way to end it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._tell: Callable[[], object] | None = None
        self.cancelled = False

    def start(self, command: list[str], **how: Any) -> subprocess.Popen[bytes]:
        """Start a child that ends with this token.

        Raises:
            Cancelled: It has ended already.
            OSError: The child cannot be started.
        """
        with self._lock:
            if self.cancelled:
                raise Cancelled
            self._process = subprocess.Popen(command, **how)
            return self._process

    def on_cancel(self, tell: Callable[[], object]) -> None:
        """Have ``tell`` called when this token ends, in place of a child.

        Raises:
            Cancelled: It has ended already.
        """
        with self._lock:
            if self.cancelled:
                raise Cancelled
            self._tell = tell

    def cancel(self) -> None:
        """End it, and the child at work for it. May be called twice, from any thread."""
        with self._lock:
            self.cancelled = True
            if self._tell is not None:
                self._tell()
            if self._process is not None and self._process.poll() is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)


@frozen
class BackgroundRequest:
    """Something to compile.

    Attributes:
        token: Takes the request back.
        work: Does it, in the background thread; must not keep the requester alive.
    """

    token: CancelToken
    work: Callable[[CancelToken], None]


class _Queue:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: deque[BackgroundRequest] = deque()
        self._running: BackgroundRequest | None = None
        self._thread: threading.Thread | None = None
        self._lost = 0

    def put(self, request: BackgroundRequest) -> None:
        with self._lock:
            self._requests.append(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ort_rknn compiles", daemon=True)
                self._thread.start()

    def cancel(self) -> int:
        """Take everything back, and return how much of it was never made, what was taken back earlier included."""
        with self._lock:
            left = [*self._requests, *([self._running] if self._running else [])]
            lost = self._lost + len(left)
            self._requests.clear()
            thread = self._thread
        for request in left:
            request.token.cancel()
        if thread is not None:  # which removes the files of the work that was ended
            thread.join(CLEAN_UP_S)
        return lost

    def _work(self) -> None:
        while True:
            with self._lock:
                self._running = None
                if not self._requests:
                    self._thread = None
                    return
                self._running = request = self._requests.popleft()
            if not request.token.cancelled:
                request.work(request.token)
            with self._lock:
                self._lost += request.token.cancelled
            del request  # or the requester's last reference would wait here for the next request


_queue = _Queue()


def compile_later(token: CancelToken, work: Callable[[CancelToken], None]) -> None:
    """Have ``work`` done in the background, after what was requested before."""
    _queue.put(BackgroundRequest(token, work))  # no limit: the queue takes any number


@atexit.register
def _at_exit() -> None:
    if lost := _queue.cancel():
        several = lost > 1
        logger().warning(
            "%d shape%s not ready when the program ended, and the CPU ran %s; %s=load waits instead",
            lost,
            "s were" if several else " was",
            "them" if several else "it",
            "ORT_RKNN_COMPILE",
        )


def _after_fork() -> None:
    """The thread and its child stayed with the parent process."""
    global _queue
    _queue = _Queue()


os.register_at_fork(after_in_child=_after_fork)


def usable_cache(cache_dir: str | None) -> str:
    """The cache's folder, or one that lives as long as the process where that cannot be written."""
    from ort_rknn_converters.cache.store import cache_directory

    return _usable(cache_directory(cache_dir))


@functools.cache
def _usable(folder: Path) -> str:
    from ort_rknn_converters.util.own_files import make_private

    with suppress(OSError):
        make_private(folder)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    from ort_rknn_converters.util import temp_dirs as scratch

    own = scratch.hold("ort_rknn-cache-")
    atexit.register(scratch.remove, own)
    return str(own)


def compile_in_child(
    model: str | bytes, options: ConvertOptions, cache_dir: str | None, token: CancelToken
) -> CompiledModel:
    """Convert a model in a child process, into the cache; in this thread where there is no Python to start.

    Args:
        model: Path or content.
        options: How to convert.
        cache_dir: The cache's folder.
        token: Ends the child.

    Raises:
        Cancelled: The token was cancelled.
        ToolkitMissing: There is no toolkit.
        ConvertError: What the conversion raised, or the child died.
    """
    from ort_rknn_converters.cache import child_main, store
    from ort_rknn_converters.errors import ConvertError, thaw
    from ort_rknn_converters.toolkit.setup.environment import find_python, toolkit_version
    from ort_rknn_converters.util import temp_dirs as scratch
    from ort_rknn_converters.util.foreign_text import shown
    from ort_rknn_converters.util.own_files import read_own
    from ort_rknn_converters.util.plain_data import parse_json
    from ort_rknn_converters.util.this_python import this_python

    find_python()
    python = this_python()
    if not python:
        return _compile_here(model, options, cache_dir, token)
    with scratch.temporary("ort_rknn-background-") as folder:
        child_main.describe(model, options, cache_dir, folder)
        _write_path(folder)
        with (folder / "log.txt").open("wb") as log:
            child = token.start(
                [python, "-c", _START, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(folder),
                start_new_session=True,
            )
            status = child.wait()  # no limit: each of its compilations has one, and the token ends it
        if token.cancelled:
            raise Cancelled
        result = folder / child_main.RESULT
        if not result.exists():
            tail = shown(_end_of(folder / "log.txt"))
            raise ConvertError(f"the conversion's process ended with status {status}: {tail}")
        try:
            failure = parse_json(read_own(result, _MOST), child_main.ANSWER).get("failure")
        except (OSError, ValueError) as error:
            raise ConvertError(f"the conversion's answer cannot be read: {error}") from error
        if failure:
            raise thaw(failure)
    found = store.Cache(store.cache_directory(cache_dir)).lookup(store.key_of(model, options), toolkit_version())
    if found is None:
        raise ConvertError(
            "the conversion's result is not in the cache; the model's file may have been changed meanwhile"
        )
    return found


def _end_of(log: Path) -> str:
    """The last line of a log that may be long."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _END_OF_LOG))
        return file.read().decode(errors="replace").strip().rpartition("\n")[2]


def _compile_here(
    model: str | bytes, options: ConvertOptions, cache_dir: str | None, token: CancelToken
) -> CompiledModel:
    """In a program that is frozen, or embedded in a host: only the toolkit's own process is another one.

    Raises:
        Cancelled: The token was cancelled.
        ConvertError: What the conversion raised.
    """
    from ort_rknn_converters.cache import store
    from ort_rknn_converters.cache.child_main import NICENESS
    from ort_rknn_converters.errors import ToolkitFailed
    from ort_rknn_converters.toolkit.compile import compile_segment

    ended = threading.Event()
    token.on_cancel(ended.set)

    def compile(*args: Any, **how: Any) -> CompileResult:
        return compile_segment(*args, **{**how, "nice": NICENESS, "cancelled": ended})

    try:
        made = store.load_or_convert(model, options, cache_dir=cache_dir, compile=compile)
    except KeyboardInterrupt:
        raise Cancelled from None
    if made.provisional:
        raise ToolkitFailed(made.provisional, kind="killed")
    return made


def _write_path(folder: Path) -> None:
    from ort_rknn_converters.cache.child_main import PATH
    from ort_rknn_converters.util.own_files import write_own

    write_own(folder / PATH, json.dumps([str(Path(entry).absolute()) for entry in sys.path]))


def _environment(folder: Path) -> dict[str, str]:
    """The program's own; temporary files go where they are removed with the job, however it ends."""
    scratch = folder / "tmp"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    for name in ("PYTHONWARNINGS", "PYTHONSTARTUP", "PYTHONINSPECT"):
        environment.pop(name, None)
    return environment
