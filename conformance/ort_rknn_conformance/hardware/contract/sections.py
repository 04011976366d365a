"""Sections of the contract: each runs in a process of its own, for the vendor's runtime may crash, abort or hang in it.

What a section says is written line by line to a pipe, with what the runtime has logged meanwhile, so that nothing is
lost when the process dies.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.plain_data import parse_json

__all__ = ["Section", "Teller", "run_section"]

LIMIT = 20.0
"""Seconds a section may take. A guess: the vendor's runtime answers all in 5 ms, opening takes 0.15 s."""

_END_S = 5.0  # seconds for a process to be gone once it has ended or was killed; a guess

_TIME = re.compile(r"^E RKNN: \[[0-9:.]+\] ?")


@frozen
class Section:
    """Answers of one process.

    Attributes:
        name: Of the section.
        lines: What was asked and answered, each with what the runtime logged (``said``, ``log``).
        died: ``SIGSEGV``, ``SIGABRT``, ``time limit`` ..., or ``""`` where the process came to its end.
        last: What the runtime logged before it died.
    """

    name: str
    lines: tuple[dict[str, Any], ...]
    died: str
    last: tuple[str, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Section:
        """The opposite of :meth:`to_dict`."""
        return cls(data["name"], tuple(data["lines"]), data["died"], tuple(data["last"]))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"name": self.name, "lines": list(self.lines), "died": self.died, "last": list(self.last)}


class Teller:
    """Says lines into a pipe, each with what came on stderr since the one before.

    Args:
        pipe: File descriptor to write to.
        log: File that stderr was led to.
    """

    def __init__(self, pipe: int, log: Any) -> None:
        self._pipe = pipe
        self._log = log

    def skip(self) -> None:
        """Leave out what came on stderr until now."""
        sys.stderr.flush()
        self._log.read()
        self._say({"seen": self._log.tell()})

    def __call__(self, said: str) -> None:
        """Say a line."""
        sys.stderr.flush()
        logged = _logged(self._log.read())
        self._say({"said": said, "log": logged, "seen": self._log.tell()})

    def _say(self, line: dict[str, Any]) -> None:
        os.write(self._pipe, json.dumps(line).encode() + b"\n")


def _logged(text: str) -> list[str]:
    """The runtime's error lines without their times."""
    return [_TIME.sub("", line) for line in text.splitlines() if _TIME.match(line)]


def run_section(name: str, ask: Callable[[Teller], None], limit: float = LIMIT) -> Section:
    """Run a section in a process of its own. The caller has no other threads.

    Args:
        name: Of the section.
        ask: Asks and tells.
        limit: Seconds it may take.
    """
    reader, writer = os.pipe()
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        child = os.fork()
        if child == 0:
            _be_child(reader, writer, log, ask)
        os.close(writer)
        try:
            text, in_time = _read_all(reader, time.monotonic() + limit)
        finally:
            os.close(reader)
        died = _end_of(child, in_time)
        told = [parse_json(line) for line in text.decode(errors="replace").splitlines() if line.endswith("}")]
        seen = max((line.pop("seen") for line in told), default=0)
        lines = tuple(line for line in told if line)
        whole = log.read()
        last = [
            line for line in whole.splitlines() if line.startswith(("E EMU", "terminate", "  what", "free()", "double"))
        ]
        return Section(name, lines, died, (*_logged(whole[seen:]), *last))


def _be_child(reader: int, writer: int, log: Any, ask: Callable[[Teller], None]) -> NoReturn:
    code = 1
    try:
        os.close(reader)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        opened = os.open(log.name, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, 2)
        teller = Teller(writer, Path(log.name).open(errors="replace"))  # noqa: SIM115 - until the process ends
        try:
            ask(teller)
            code = 0
        except Exception as error:
            teller(f"stopped: {type(error).__name__}: {error}")
    finally:
        os._exit(code)


def _read_all(reader: int, deadline: float) -> tuple[bytes, bool]:
    """Everything that comes until the pipe is closed, and whether that was in time."""
    parts: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            return b"".join(parts), False
        part = os.read(reader, 65536)
        if not part:
            return b"".join(parts), True
        parts.append(part)


def _end_of(child: int, in_time: bool) -> str:
    if not in_time:
        os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + _END_S
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:  # inside the driver not even SIGKILL ends it
            return "hangs inside the driver, where nothing ends it"
        time.sleep(0.01)
    status = ended[1]
    if not in_time:
        return "time limit"
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else ""
