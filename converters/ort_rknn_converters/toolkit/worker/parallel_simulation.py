"""The simulator beside the compiler: what the toolkit does one after the other is done at once.

Runs inside the toolkit's child process, like ``main.py`` beside it and with the same limits (Python 3.8 or newer).
The compiler turns one file into another; the simulator runs the graph that was written into the first. So when the
toolkit calls the compiler, this process forks: the copy is told that the compiler is done, simulates the feeds, leaves
its answers and ends. Whatever goes wrong with the copy, the simulator can still be run afterwards, as without it.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ANSWERS, LOG = "simulated.json", "simulated.txt"
PATIENCE, LEAST_S = 10.0, 60.0
"""A copy that takes this many times as long as everything before it, or this many seconds, hangs: guesses. It is
given up, and the simulator run again."""


class Simulation:
    """A copy of this process that simulates, or will.

    Attributes:
        here: Whether this is the copy.
    """

    def __init__(self, end_with_parent: Callable[[int], None], give_memory_back: Callable[[], None]) -> None:
        self.here = False
        self._end_with_parent = end_with_parent
        self._give_memory_back = give_memory_back
        self._began = time.monotonic()
        self._limit = 0.0
        self._copy = 0
        self._ended = -1

    @contextmanager
    def beside_the_compiler(self) -> Iterator[None]:
        """Fork at the first call of the compiler inside the ``with`` block."""
        try:
            compiler = importlib.import_module("rknn.api.rknn_compiler").RKNNCompiler
            known = isinstance(vars(compiler)["build"], staticmethod)
        except (ImportError, AttributeError, KeyError):
            known = False
        if not known:  # another version of the toolkit: one after the other, then
            yield
            return
        compile = compiler.build

        def fork_and_compile(*args: Any, **kwargs: Any) -> Any:
            if not (self.here or self._copy):
                self._fork()
            return 0 if self.here else compile(*args, **kwargs)

        compiler.build = staticmethod(fork_and_compile)
        try:
            yield
        finally:
            compiler.build = staticmethod(compile)

    def _fork(self) -> None:
        parent = os.getpid()
        self._limit = max(LEAST_S, PATIENCE * (time.monotonic() - self._began))
        self._give_memory_back()  # the compiler is where a build needs most
        _flush()  # or both would print what waits there
        self._ended, held = os.pipe()
        try:
            self._copy = os.fork()
        except OSError:  # no room for another process
            self._copy = -1
        self.here = self._copy == 0
        if self.here:
            self._end_with_parent(parent)
            log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
        else:
            os.close(held)

    def leave(self, toolkit: Any, simulate: Callable[[list[str], list[str]], list[dict[str, str]]]) -> None:
        """In the copy: simulate, leave the answers, and end.

        Args:
            toolkit: The toolkit's object, built.
            simulate: Runs all feeds, given the names of inputs and outputs in the toolkit's order.
        """
        base = toolkit.rknn_base
        names = {"inputs": list(base.ir.inputs), "outputs": list(base.ir.outputs)}
        base.check_rknn_path = str(Path("job.json").absolute())  # must be there, but is not read
        if toolkit.init_runtime() == 0:
            Path(ANSWERS).write_text(json.dumps({**names, "answers": simulate(names["inputs"], names["outputs"])}))
        _flush()
        os._exit(0)

    def answers(self, inputs: list[str], outputs: list[str]) -> list[dict[str, str]] | None:
        """Wait for what the copy found.

        Args:
            inputs: Names in the compiled file, in its order.
            outputs: The same of its outputs.

        Returns:
            Per feed, output name -> file; ``None`` without a copy, or where it failed or simulated something else.
        """
        if self._copy <= 0:
            return None
        if not select.select([self._ended], [], [], self._limit)[0]:
            os.kill(self._copy, signal.SIGKILL)
        os.waitpid(self._copy, 0)  # no limit: it ends, or was killed, and never calls a driver
        try:
            found = json.loads(Path(ANSWERS).read_text(encoding="utf-8"))
            said = Path(LOG).read_bytes()
        except (OSError, ValueError):
            return None
        if (found["inputs"], found["outputs"]) != (inputs, outputs):
            return None
        _flush()
        os.write(1, said)
        answers: list[dict[str, str]] = found["answers"]
        return answers


def _flush() -> None:
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)
