"""Keeps the bad manners of rknn-toolkit-lite2 from the program it lives in, and its words from being lost.

Importing it renames the levels of :mod:`logging` ("INFO" becomes "I"), which breaks other people's formatters; it
prints to stdout; it puts a handler of its own on stderr; and the reason of every failure goes only to its logger.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from ort_rknn_converters.util.log import logger

__all__ = ["heard", "well_behaved"]

LOGGER = "acuityLogger"
"""The vendor's logger; it does not propagate."""

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_one_at_a_time = threading.RLock()


class _Listener(logging.Handler):
    """Gives each thread what was logged on its behalf, and all of it to our own logger as debug messages."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: dict[int, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep errors, in short."""
        text = record.getMessage().strip()
        logger().debug("rknn-toolkit-lite2: %s", text)
        lines = self.lines.get(threading.get_ident())
        if lines is not None and record.levelno >= logging.ERROR and text:
            # Of a traceback the last line is the reason.
            lines.append(text.splitlines()[-1].removeprefix("Exception: ") if "Traceback" in text else text)


_listener = _Listener()


class _OwnThread(io.TextIOBase):
    """Stands for stdout: what this thread prints is kept, what others print goes where it belongs."""

    def __init__(self, other: Any) -> None:
        self._other = other
        self._thread = threading.get_ident()
        self.text = ""

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            return int(self._other.write(text))
        self.text += text
        return len(text)

    def flush(self) -> None:
        if threading.get_ident() != self._thread:
            self._other.flush()


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """Collect the errors the vendor's package logs in this thread meanwhile."""
    vendors = logging.getLogger(LOGGER)
    if _listener not in vendors.handlers:
        vendors.addHandler(_listener)
    thread, lines = threading.get_ident(), list[str]()
    before = _listener.lines.get(thread)
    _listener.lines[thread] = lines
    try:
        yield lines
    finally:
        if before is None:
            del _listener.lines[thread]
        else:
            _listener.lines[thread] = before


@contextlib.contextmanager
def well_behaved() -> Iterator[list[str]]:
    """For importing, opening and closing: also mends the levels' names, and catches warnings and prints.

    What was printed comes after the errors in the list, when the block ends.
    """
    with _one_at_a_time, heard() as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports pkg_resources
        names = {level: logging.getLevelName(level) for level in _LEVELS}
        ours = "rknnlite" not in sys.modules  # else a program uses it as well, and its output stays
        out = _OwnThread(sys.stdout)
        try:
            with contextlib.redirect_stdout(out):
                yield lines
        finally:
            for level, name in names.items():
                if logging.getLevelName(level) != name:
                    logging.addLevelName(level, name)
            if ours:
                _unplug()
            lines += [line.strip() for line in out.text.splitlines() if line.strip()]


def _unplug() -> None:
    """Take the vendor's own handlers off its logger: its messages go to ours."""
    logger = logging.getLogger(LOGGER)
    for handler in list(logger.handlers):
        if handler is not _listener:
            logger.removeHandler(handler)
